//! The schemas of the types that go over the wire, under the names by which the documents refer to them.

use schemars::generate::{GenTransform, SchemaGenerator, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value};

/// Where the documents keep schemas.
const PATH: &str = "/components/schemas";

/// The keywords next to which `additionalProperties` would not see all fields of an object.
const COMBINING: [&str; 4] = ["allOf", "anyOf", "oneOf", "$ref"];

/// The schemas that a document refers to.
///
/// They are exact: an object has the fields that its type has, and no others, so that a check by them finds a misspelt
/// one.
pub(in crate::server) struct Schemas {
    sent: SchemaGenerator,
    received: SchemaGenerator,
}

impl Schemas {
    /// In the dialect of OpenAPI 3.1.
    pub(super) fn of_draft_2020() -> Self {
        Self::new(&SchemaSettings::draft2020_12())
    }

    /// In the dialect of AsyncAPI.
    pub(super) fn of_draft_7() -> Self {
        Self::new(&SchemaSettings::draft07())
    }

    fn new(settings: &SchemaSettings) -> Self {
        // What makes schemas exact comes before what translates them into a dialect.
        let exact = |change: fn(&mut Schema)| {
            settings.clone().with(|settings| {
                settings.definitions_path = PATH.into();
                settings.meta_schema = None;
                let exact: [Box<dyn GenTransform>; 2] = [
                    Box::new(RecursiveTransform(change)),
                    Box::new(RecursiveTransform(close)),
                ];
                settings.transforms.splice(0..0, exact);
            })
        };
        Self {
            sent: exact(refuse_null).for_serialize().into(),
            received: exact(omit_null_default).into(),
        }
    }

    /// A reference to the schema of what the relay sends.
    pub(super) fn sent<T: JsonSchema>(&mut self) -> Value {
        self.sent.subschema_for::<T>().to_value()
    }

    /// A reference to the schema of what the relay takes.
    pub(super) fn received<T: JsonSchema>(&mut self) -> Value {
        self.received.subschema_for::<T>().to_value()
    }

    /// All schemas that were referred to, by their names.
    ///
    /// # Panics
    ///
    /// If a type is sent and received under one name with different fields.
    pub(super) fn into_components(mut self) -> Map<String, Value> {
        let mut components = self.sent.take_definitions(true);
        for (name, received) in self.received.take_definitions(true) {
            let sent = components.entry(&name).or_insert_with(|| received.clone());
            assert_eq!(*sent, received, "{name} is sent and received differently");
        }
        components.sort_keys();
        components
    }
}

/// An object has no other fields than its type.
fn close(schema: &mut Schema) {
    let is_closed = ["additionalProperties", "unevaluatedProperties"];
    if schema.get("properties").is_none() || is_closed.iter().any(|key| schema.get(*key).is_some())
    {
        return;
    }
    let combines = COMBINING.iter().any(|key| schema.get(*key).is_some());
    let [additional, unevaluated] = is_closed;
    let key = if combines { unevaluated } else { additional };
    schema.insert(key.to_owned(), false.into());
}

/// A field that the relay can leave out is never `null`.
fn refuse_null(schema: &mut Schema) {
    let required = schema.get("required").and_then(Value::as_array).cloned();
    let required = required.unwrap_or_default();
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    for (name, field) in fields.into_iter().flatten() {
        let can_be_absent = !required.iter().any(|it| it == name);
        if can_be_absent {
            take_null_out(field);
        }
        let nothing = if can_be_absent { "absent" } else { "`null`" };
        translate(field, nothing);
    }
}

/// Has the description of a field speak of JSON, where `None` is `nothing`.
fn translate(field: &mut Value, nothing: &str) {
    if let Some(text) = field.get("description").and_then(Value::as_str) {
        let text = text.replace('\n', " ").replace("`None`", nothing);
        field["description"] = text.into();
    }
}

fn take_null_out(field: &mut Value) {
    if let Some(types) = field.get_mut("type").and_then(Value::as_array_mut) {
        types.retain(|it| it != "null");
        if let [only] = types.as_slice() {
            field["type"] = only.clone();
        }
    }
    let null = serde_json::json!({"type": "null"});
    let Some(choices) = field.get_mut("anyOf").and_then(Value::as_array_mut) else {
        return;
    };
    choices.retain(|it| *it != null);
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        if let Some(field) = field.as_object_mut() {
            field.remove("anyOf");
            field.extend(only);
        }
    }
}

/// A field that may be left out has no default worth a word.
fn omit_null_default(schema: &mut Schema) {
    if schema.get("default").is_some_and(Value::is_null) {
        schema.remove("default");
    }
}
