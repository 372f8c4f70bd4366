//! A channel of messages, as the AsyncAPI document describes it.

use serde_json::{Map, Value, json};

use super::parameter::Parameter;

/// A channel of messages.
pub(super) struct ChannelDescription {
    /// Its name in the document.
    name: &'static str,
    /// With its parameters in braces; `None` where it differs from target to target.
    address: Option<&'static str>,
    summary: &'static str,
    server: &'static str,
    /// What a client asks for in the query of its handshake.
    parameters: Vec<Parameter>,
    /// The messages that the relay sends.
    sent: Vec<&'static str>,
    /// The messages that it takes.
    received: Vec<&'static str>,
}

impl ChannelDescription {
    /// A WebSocket.
    pub(super) fn socket(name: &'static str, address: &'static str, summary: &'static str) -> Self {
        Self::new("sockets", name, Some(address), summary)
    }

    /// An event stream.
    pub(super) fn stream(name: &'static str, address: &'static str, summary: &'static str) -> Self {
        Self::new("streams", name, Some(address), summary)
    }

    /// A channel of Redis.
    pub(super) fn redis(name: &'static str, address: &'static str, summary: &'static str) -> Self {
        Self::new("redis", name, Some(address), summary)
    }

    /// The targets of webhooks.
    pub(super) fn webhooks(name: &'static str, summary: &'static str) -> Self {
        Self::new("target", name, None, summary)
    }

    fn new(
        server: &'static str,
        name: &'static str,
        address: Option<&'static str>,
        summary: &'static str,
    ) -> Self {
        Self {
            name,
            address,
            summary,
            server,
            parameters: Vec::new(),
            sent: Vec::new(),
            received: Vec::new(),
        }
    }

    /// A client can ask for something in the query of its handshake.
    pub(super) fn takes(self, parameters: Vec<Parameter>) -> Self {
        Self { parameters, ..self }
    }

    pub(super) fn sends(self, messages: &[&'static str]) -> Self {
        let sent = messages.to_vec();
        Self { sent, ..self }
    }

    pub(super) fn receives(self, messages: &[&'static str]) -> Self {
        let received = messages.to_vec();
        Self { received, ..self }
    }

    /// Its part of the document, under its name.
    pub(super) fn describe(&self) -> (String, Value) {
        let messages = self.sent.iter().chain(&self.received).map(|message| {
            let reference = json!({"$ref": format!("#/components/messages/{message}")});
            ((*message).to_owned(), reference)
        });
        let messages: Map<String, Value> = messages.collect();
        let mut described = json!({
            "address": self.address,
            "summary": self.summary,
            "servers": [{"$ref": format!("#/servers/{}", self.server)}],
            "messages": messages,
        });
        let path = self.address.unwrap_or_default();
        let names = path
            .split('{')
            .skip(1)
            .filter_map(|part| part.split('}').next());
        let parameters = names.map(|name| (name.to_owned(), json!({"description": about(name)})));
        let parameters: Map<String, Value> = parameters.collect();
        if !parameters.is_empty() {
            described["parameters"] = parameters.into();
        }
        if !self.parameters.is_empty() {
            let query = self.parameters.iter().map(Parameter::property);
            let query: Map<String, Value> = query.collect();
            let query = json!({"type": "object", "properties": query});
            described["bindings"] = json!({"ws": {"query": query, "bindingVersion": "0.1.0"}});
        }
        (self.name.to_owned(), described)
    }

    /// What the relay does on it, under the names of the operations.
    pub(super) fn operations(&self) -> Vec<(String, Value)> {
        let operations = [("send", &self.sent), ("receive", &self.received)];
        let operations = operations
            .into_iter()
            .filter(|(_, messages)| !messages.is_empty());
        let operations = operations.map(|(action, messages)| {
            let of_channel = |message: &&str| {
                json!({"$ref": format!("#/channels/{}/messages/{message}", self.name)})
            };
            let described = json!({
                "action": action,
                "channel": {"$ref": format!("#/channels/{}", self.name)},
                "summary": self.summary,
                "messages": messages.iter().map(of_channel).collect::<Vec<_>>(),
            });
            (format!("{action}_{}", self.name), described)
        });
        operations.collect()
    }
}

fn about(parameter: &str) -> &'static str {
    match parameter {
        "job_id" => "The id of a job, or of a prompt of ComfyUI.",
        _ => "The name of the group.",
    }
}
