//! What derives cannot know of the JSON Schemas of what goes over the wire.

use schemars::Schema;
use serde_json::{Map, Value, json};

/// Adds the `type` that serde gives a message.
pub(crate) fn message_type(word: &'static str) -> impl FnMut(&mut Schema) {
    move |schema| {
        let fields = schema.remove("properties");
        let mut typed =
            Map::from_iter([("type".to_owned(), json!({"type": "string", "const": word}))]);
        typed.extend(
            fields
                .and_then(|fields| fields.as_object().cloned())
                .unwrap_or_default(),
        );
        schema.insert("properties".to_owned(), typed.into());
        let required = schema.remove("required");
        let mut all = vec![Value::from("type")];
        all.extend(
            required
                .and_then(|names| names.as_array().cloned())
                .unwrap_or_default(),
        );
        schema.insert("required".to_owned(), all.into());
    }
}

/// Implements `JsonSchema` for an enum with `ALL` and `as_str`: a text that is one of its words.
macro_rules! word_schema {
    ($type:ident, $description:literal) => {
        impl schemars::JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({
                    "description": $description,
                    "type": "string",
                    "enum": $type::ALL.map($type::as_str),
                })
            }
        }
    };
}

pub(crate) use word_schema;
