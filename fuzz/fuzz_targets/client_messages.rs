//! The messages of subscribers: those that are documented are accepted, and no others.
#![no_main]

use comfy_relay::job::JobId;
use comfy_relay::session::{ClientMessage, ServerMessage};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|text: &str| {
    // serde_json reads an object with such a key as a number or a raw value.
    if text.contains("$serde_json") {
        return;
    }
    let parsed = ClientMessage::parse(text);
    let Ok(value) = serde_json::from_str::<Value>(text) else {
        assert!(parsed.is_err(), "this is not JSON");
        return;
    };
    if let Ok(message) = &parsed {
        assert_eq!(Some(message), documented(&value).as_ref());
    }
    // Again without duplicate keys.
    let once = ClientMessage::parse(&value.to_string());
    assert_eq!(once.as_ref().ok(), documented(&value).as_ref());

    match once {
        Ok(ClientMessage::Subscribe { job_id: id } | ClientMessage::Unsubscribe { job_id: id })
        | Ok(ClientMessage::Cancel { job_id: Some(id) }) => {
            if let Err(error) = JobId::parse(&id) {
                send_error(&error.to_string());
            }
        }
        Ok(_) => {}
        Err(error) => send_error(&error.to_string()),
    }
});

/// The message that a value is, by the documentation.
fn documented(value: &Value) -> Option<ClientMessage> {
    let object = value.as_object()?;
    let job_id = object.get("job_id");
    let named = || job_id?.as_str().map(str::to_owned);
    match object.get("type")?.as_str()? {
        "ping" => Some(ClientMessage::Ping),
        "pong" => Some(ClientMessage::Pong),
        "subscribe" => Some(ClientMessage::Subscribe { job_id: named()? }),
        "unsubscribe" => Some(ClientMessage::Unsubscribe { job_id: named()? }),
        "cancel" => match job_id {
            None | Some(Value::Null) => Some(ClientMessage::Cancel { job_id: None }),
            Some(_) => Some(ClientMessage::Cancel {
                job_id: Some(named()?),
            }),
        },
        _ => None,
    }
}

/// An error can be sent.
fn send_error(why: &str) {
    let message = ServerMessage::error("j", "bad_message", why).encode();
    let value: Value = serde_json::from_str(&message).unwrap();
    assert_eq!(value["error"], why);
}
