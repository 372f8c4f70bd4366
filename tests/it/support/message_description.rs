//! The AsyncAPI document, by which the messages of sockets are checked.

use std::collections::HashMap;
use std::fs;
use std::sync::{LazyLock, Mutex};

use jsonschema::Validator;
use serde_json::{Value, json};

static KEPT: LazyLock<MessageDescription> = LazyLock::new(|| {
    let text = fs::read_to_string("docs/asyncapi.json").unwrap();
    MessageDescription {
        document: serde_json::from_str(&text).unwrap(),
        validators: Mutex::default(),
    }
});

/// The AsyncAPI document.
pub(crate) struct MessageDescription {
    document: Value,
    /// By the pointers of schemas in the document.
    validators: Mutex<HashMap<String, &'static Validator>>,
}

impl MessageDescription {
    /// The one in `docs`, which is what the relay serves: another test compares them.
    pub(crate) fn kept() -> &'static Self {
        &KEPT
    }

    /// The name of the channel with this address.
    pub(crate) fn channel(&self, address: &str) -> Option<&str> {
        let channels = self.document["channels"].as_object().unwrap().iter();
        let matching = channels.filter(|(_, channel)| {
            let template = channel["address"].as_str().unwrap_or_default();
            is_at(template, address)
        });
        // What stands there in full comes before what stands in braces.
        let length = |channel: &Value| {
            channel["address"]
                .as_str()
                .map(|it| it.split('{').next().map(str::len))
        };
        let best = matching.max_by_key(|(_, channel)| length(channel));
        best.map(|(name, _)| name.as_str())
    }

    /// Checks a message that the relay has sent on a channel.
    pub(crate) fn check_sent(&self, channel: &str, message: &Value) -> Result<(), String> {
        let kind = message["type"].as_str().unwrap_or_default();
        self.check(channel, kind, "payload", message)
    }

    /// Checks what stands before the image in a binary message.
    pub(crate) fn check_preview(&self, channel: &str, head: &Value) -> Result<(), String> {
        self.check(channel, "preview", "headers", head)
    }

    fn check(&self, channel: &str, kind: &str, part: &str, message: &Value) -> Result<(), String> {
        let sent = format!("/operations/send_{channel}/messages");
        let sent = self.document.pointer(&sent).and_then(Value::as_array);
        let reference = json!({"$ref": format!("#/channels/{channel}/messages/{kind}")});
        if !sent.is_some_and(|sent| sent.contains(&reference)) {
            return Err(format!(
                "{kind:?} is not documented of {channel}: {message}"
            ));
        }
        let validator = self.validator(&format!("/components/messages/{kind}/{part}"));
        let problems = validator.iter_errors(message);
        let problems: Vec<String> = problems
            .map(|problem| format!("{problem} at {:?}", problem.instance_path().to_string()))
            .collect();
        if problems.is_empty() {
            return Ok(());
        }
        Err(format!("{} in {message}", problems.join("; ")))
    }

    /// The validator of a schema of the document. It is made once for all tests of a process.
    fn validator(&self, pointer: &str) -> &'static Validator {
        let mut validators = self.validators.lock().unwrap();
        validators.entry(pointer.to_owned()).or_insert_with(|| {
            let schema = self.document.pointer(pointer).unwrap();
            // Beside a reference, this dialect reads nothing else.
            let schema = json!({"allOf": [schema], "components": self.document["components"]});
            let options = jsonschema::draft7::options().should_validate_formats(true);
            Box::leak(Box::new(options.build(&schema).unwrap()))
        })
    }
}

/// Whether an address is one of a template.
fn is_at(template: &str, address: &str) -> bool {
    let Some((before, rest)) = template.split_once('{') else {
        return template == address;
    };
    let after = rest.split_once('}').map_or("", |(_, after)| after);
    let middle = address
        .strip_prefix(before)
        .and_then(|it| it.strip_suffix(after));
    middle.is_some_and(|it| !it.is_empty() && !it.contains('/'))
}
