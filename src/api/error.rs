//! What the socket answers when it does not do what was asked.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::model::NetworkName;

/// The class of an error: the `code` in its JSON, and the HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request cannot be right, whatever the state of the cluster. 400.
    BadRequest,
    /// The caller may not do this. 403.
    Forbidden,
    /// What the request is about is not there. 404.
    NotFound,
    /// There is such a resource and it has no such method. 405.
    MethodNotAllowed,
    /// The request was not sent in time. 408.
    Timeout,
    /// The request contradicts what is there. 409.
    Conflict,
    /// The body is larger than is allowed. 413.
    TooLarge,
    /// The body is not declared as JSON. 415.
    UnsupportedMediaType,
    /// The agent itself failed. 500.
    Internal,
    /// It cannot be done now: no cluster yet, the manager away, the agent stopping. 503.
    Unavailable,
}

impl ErrorKind {
    /// What stands for it in JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Timeout => "timeout",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
        }
    }

    /// The HTTP status that goes with it.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::Timeout => 408,
            Self::Conflict => 409,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Internal => 500,
            Self::Unavailable => 503,
        }
    }
}

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorDetail {
    /// The class.
    pub code: ErrorKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The field that is wrong, as a path: `subnets[1]`, `endpoints.net.name.slot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// The body of every answer whose status is 400 or above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// Why.
    pub error: ErrorDetail,
}

/// Why a request was not done. Unless its documentation says otherwise, nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{message}{}", field.as_ref().map(|f| format!("{f}: ")).unwrap_or_default(),
        hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
pub struct ApiError {
    /// The class.
    pub kind: ErrorKind,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The field that is wrong, as a path.
    pub field: Option<String>,
}

impl ApiError {
    /// An error of this class, without a hint and a field.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, field: None }
    }

    /// The request cannot be right because of this field.
    pub fn bad_field(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::BadRequest, message).at(field)
    }

    /// What the request is about is not there.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::NotFound, message)
    }

    /// No network has this name.
    pub fn no_network(name: &NetworkName) -> Self {
        Self::not_found(format!("no network is named {name}"))
            .hint("`lanmesh network ls` shows those that exist")
    }

    /// The request contradicts what is there.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Conflict, message)
    }

    /// It cannot be done now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unavailable, message)
    }

    /// The agent itself failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// The same, with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with the field that is wrong.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }

    /// The same, with the field's path continued to the left: `slot` within `endpoints.net.name`.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = Some(match self.field {
            Some(inner) => format!("{outer}.{inner}"),
            None => outer.to_owned(),
        });
        self
    }
}

impl From<ApiError> for ErrorDetail {
    fn from(error: ApiError) -> Self {
        Self { code: error.kind, message: error.message, hint: error.hint, field: error.field }
    }
}

impl From<ErrorDetail> for ApiError {
    fn from(detail: ErrorDetail) -> Self {
        Self { kind: detail.code, message: detail.message, hint: detail.hint, field: detail.field }
    }
}
