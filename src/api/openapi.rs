//! The OpenAPI 3.1 document, made from the table of routes.

use axum::http::Method;
use utoipa::ToSchema;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, ParameterBuilder, ParameterIn};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{ArrayBuilder, ComponentsBuilder, Object, ObjectBuilder, Ref, Schema, Type};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, Paths, RefOr, Required, ResponseBuilder,
};

use super::error::{ErrorBody, ErrorKind};

type Named = (String, RefOr<Schema>);

/// What a body looks like.
#[derive(Clone)]
pub(super) struct Shape {
    schema: RefOr<Schema>,
    media: &'static str,
    /// The schemas that `schema` refers to.
    components: Vec<Named>,
}

impl Shape {
    /// One `T`.
    pub(super) fn one<T: ToSchema>() -> Self {
        let mut components = vec![(T::name().into_owned(), T::schema())];
        T::schemas(&mut components);
        let schema = RefOr::Ref(Ref::from_schema_name(T::name()));
        Self { schema, media: "application/json", components }
    }

    /// A list of `T`.
    pub(super) fn many<T: ToSchema>() -> Self {
        let one = Self::one::<T>();
        let list = ArrayBuilder::new().items(one.schema).build();
        Self { schema: RefOr::T(Schema::Array(list)), ..one }
    }

    /// A stream of `T`, one JSON document in a line.
    pub(super) fn lines<T: ToSchema>() -> Self {
        Self { media: "application/x-ndjson", ..Self::one::<T>() }
    }

    /// Text or bytes of this kind.
    pub(super) fn of_media(media: &'static str) -> Self {
        let schema = RefOr::T(Schema::Object(Object::with_type(Type::String)));
        Self { schema, media, components: Vec::new() }
    }

    /// Some JSON object.
    pub(super) fn any_object() -> Self {
        let schema = RefOr::T(Schema::Object(Object::with_type(Type::Object)));
        Self { schema, media: "application/json", components: Vec::new() }
    }

    fn content(&self) -> utoipa::openapi::Content {
        ContentBuilder::new().schema(Some(self.schema.clone())).build()
    }
}

/// A query parameter.
pub(super) struct QueryDoc {
    pub(super) name: &'static str,
    pub(super) kind: QueryKind,
    pub(super) description: &'static str,
}

/// What a query parameter's value is.
#[derive(Clone, Copy)]
pub(super) enum QueryKind {
    Flag,
    Number,
    Text,
}

/// What is documented of a route.
pub(super) struct RouteDoc {
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) summary: &'static str,
    pub(super) secret: bool,
    pub(super) query: &'static [QueryDoc],
    pub(super) request: Option<Shape>,
    pub(super) answer: Shape,
}

impl RouteDoc {
    fn http_method(&self) -> HttpMethod {
        match self.method {
            Method::PUT => HttpMethod::Put,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        }
    }

    /// The names in braces.
    fn params(&self) -> impl Iterator<Item = &'static str> {
        self.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    }

    /// `PUT /v1/networks/{name}` is `put_networks_name`.
    fn id(&self) -> String {
        let mut id = self.method.as_str().to_ascii_lowercase();
        for part in self.path.split('/').filter(|part| !matches!(*part, "" | "v1")) {
            id.push('_');
            id.push_str(&part.trim_matches(['{', '}']).replace('.', "_"));
        }
        id
    }

    /// The errors that a call of this route may give.
    fn errors(&self) -> Vec<ErrorKind> {
        let mut errors = vec![ErrorKind::BadRequest, ErrorKind::Forbidden];
        if self.params().next().is_some() {
            errors.push(ErrorKind::NotFound);
        }
        if self.method != Method::GET {
            errors.push(ErrorKind::Conflict);
        }
        if self.request.is_some() {
            errors.extend([ErrorKind::Timeout, ErrorKind::TooLarge, ErrorKind::UnsupportedMediaType]);
        }
        errors.extend([ErrorKind::Internal, ErrorKind::Unavailable]);
        errors
    }

    fn operation(&self) -> Operation {
        let tag = self.path.split('/').nth(2).unwrap_or_default();
        let mut operation =
            OperationBuilder::new().summary(Some(self.summary)).operation_id(Some(self.id())).tag(tag);
        if self.secret {
            operation = operation.description(Some("A secret: needs the right to write."));
        }
        for name in self.params() {
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Path)
                    .required(Required::True)
                    .schema(Some(Object::with_type(Type::String))),
            );
        }
        for query in self.query {
            let schema = match query.kind {
                QueryKind::Flag => Object::with_type(Type::Boolean),
                QueryKind::Text => Object::with_type(Type::String),
                QueryKind::Number => ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0)).build(),
            };
            operation = operation.parameter(
                ParameterBuilder::new()
                    .name(query.name)
                    .parameter_in(ParameterIn::Query)
                    .required(Required::False)
                    .description(Some(query.description))
                    .schema(Some(schema)),
            );
        }
        if let Some(request) = &self.request {
            let body = RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content(request.media, request.content())
                .build();
            operation = operation.request_body(Some(body));
        }
        let ok = ResponseBuilder::new()
            .description("It is so.")
            .content(self.answer.media, self.answer.content())
            .build();
        operation = operation.response("200", ok);
        for error in self.errors() {
            operation = operation.response(error.status().to_string(), error_response(error));
        }
        operation.build()
    }
}

fn error_response(error: ErrorKind) -> utoipa::openapi::Response {
    let description = match error {
        ErrorKind::BadRequest => "The request cannot be right; `field` names what is wrong with it.",
        ErrorKind::Forbidden => "The caller may not do this.",
        ErrorKind::NotFound => "What the path names is not there.",
        ErrorKind::MethodNotAllowed => "There is no such method here.",
        ErrorKind::Timeout => "The body did not arrive in time.",
        ErrorKind::Conflict => "The request contradicts what is there.",
        ErrorKind::TooLarge => "The body is too large.",
        ErrorKind::UnsupportedMediaType => "The body is not declared as JSON.",
        ErrorKind::Internal => "The agent failed.",
        ErrorKind::Unavailable => "It cannot be done now.",
    };
    let body = Shape::one::<ErrorBody>();
    ResponseBuilder::new().description(description).content(body.media, body.content()).build()
}

/// The document of these routes.
pub(super) fn document(routes: &[RouteDoc]) -> OpenApi {
    let mut paths = Paths::new();
    let mut components: Vec<Named> = Shape::one::<ErrorBody>().components;
    for route in routes {
        paths.add_path_operation(route.path, vec![route.http_method()], route.operation());
        components.extend(route.answer.components.iter().cloned());
        components.extend(route.request.iter().flat_map(|request| request.components.iter().cloned()));
    }
    let description = "The local socket of a lanmesh agent. Every PUT and DELETE can be repeated. Root and the \
                       members of write_group may write; others may at most read.";
    let info = InfoBuilder::new()
        .title("lanmesh")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(description))
        .license(Some(License::new("Apache-2.0")))
        .build();
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(ComponentsBuilder::new().schemas_from_iter(components).build()))
        .build()
}
