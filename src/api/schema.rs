//! OpenAPI schemas of the model's enumerations, which know nothing of OpenAPI themselves.

use serde::Serialize;
use utoipa::openapi::schema::{ArrayBuilder, Object, ObjectBuilder, OneOfBuilder, Schema, SchemaType, Type};

use crate::model::{NodeState, OptionValue, Weight};

/// A string that is one of `values` as they are written in JSON.
fn one_of<T: Serialize>(values: &[T]) -> Object {
    let values = values.iter().filter_map(|value| serde_json::to_value(value).ok());
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(values)).build()
}

/// The states of a node.
pub fn node_state() -> Object {
    one_of(&[NodeState::Alive, NodeState::Suspect, NodeState::Dead, NodeState::Left])
}

/// How much something that is wrong says of a path.
pub fn weight() -> Object {
    one_of(&[Weight::Cause, Weight::Symptom, Weight::Vague, Weight::Aside])
}

/// An option of a network: one of its words, or a number or a text that may be left out.
pub fn option<T: OptionValue>() -> Object {
    let words: Vec<_> = T::choices().into_iter().map(|choice| choice.word).collect();
    if words.is_empty() {
        if T::VALUE != "N" {
            let kind = SchemaType::from_iter([Type::String, Type::Null]);
            return ObjectBuilder::new().schema_type(kind).build();
        }
        let kind = SchemaType::from_iter([Type::Integer, Type::Null]);
        return ObjectBuilder::new().schema_type(kind).minimum(Some(0)).build();
    }
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).build()
}

/// Pools as a request may have them: service to range or to several.
pub fn pools() -> Object {
    let text = || Object::with_type(Type::String);
    let ranges = OneOfBuilder::new().item(text()).item(ArrayBuilder::new().items(text()));
    ObjectBuilder::new()
        .schema_type(Type::Object)
        .additional_properties(Some(Schema::OneOf(ranges.build())))
        .build()
}
