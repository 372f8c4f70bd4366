//! The header `Idempotency-Key`, and what identifies a request.

use std::fmt::Write;

use aws_lc_rs::digest::{Context, SHA256};
use hyper::HeaderMap;
use serde_json::{Map, Value, json};

use crate::auth::Permissions;
use crate::relay::RequestId;
use crate::server::contract::parameter::Parameter;
use crate::server::error::ApiError;

/// The header.
const HEADER: &str = "idempotency-key";

/// The longest key, in bytes.
const MAX_KEY: usize = 255;

/// Between the parts of which a digest is made.
const SEPARATOR: &[u8] = b"\0";

/// The header, as documents describe it.
pub(super) fn parameter() -> Parameter {
    let about = "Repeat a request with the same key, and it is done once.";
    let schema =
        json!({"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[ -~]+$"});
    Parameter::header("Idempotency-Key", about, schema)
}

/// A digest of the key that a request has, and of whom its token was issued to: keys of others are no concern. `None` if it has
/// no key.
pub(in crate::server) fn key(
    headers: &HeaderMap,
    permissions: &Permissions,
) -> Result<Option<String>, ApiError> {
    let mut keys = headers.get_all(HEADER).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let is_printable = |key: &[u8]| key.iter().all(|byte| (b' '..=b'~').contains(byte));
    let key = key.as_bytes();
    if !(1..=MAX_KEY).contains(&key.len()) || !is_printable(key) || keys.next().is_some() {
        return Err(ApiError::bad_request(
            "bad_idempotency_key",
            format!("Idempotency-Key is one text of 1 to {MAX_KEY} printable ASCII characters"),
        ));
    }
    // The key has no NUL, so that the parts cannot be mistaken.
    let sub = permissions.sub();
    let sub = sub.map_or(&b""[..], |sub| sub.as_bytes());
    let is_named = [u8::from(permissions.sub().is_some())];
    Ok(Some(digest(&[key, SEPARATOR, &is_named, sub])))
}

/// What identifies a request of this kind: its key, and a digest of its body, whatever the order of its fields. One
/// that has neither a key nor names its jobs cannot be repeated.
pub(in crate::server) fn request_id(
    key: Option<String>,
    kind: &str,
    body: &Map<String, Value>,
    is_named: bool,
) -> RequestId {
    if key.is_none() && !is_named {
        return RequestId::default();
    }
    let mut body = Value::Object(body.clone());
    body.sort_all_objects();
    let text = body.to_string();
    RequestId {
        key,
        digest: Some(digest(&[kind.as_bytes(), SEPARATOR, text.as_bytes()])),
    }
}

/// The SHA-256 of these parts, one behind the other, in hexadecimal digits.
fn digest(parts: &[&[u8]]) -> String {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let digest = context.finish();
    digest
        .as_ref()
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing to a text cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(body: &Value) -> Option<String> {
        request_id(None, "job", body.as_object().unwrap(), true).digest
    }

    #[test]
    fn the_order_of_fields_makes_no_difference_at_any_depth() {
        let one = request(&json!({"a": {"x": 1, "y": [{"p": 1, "q": 2}]}, "b": 2}));
        let other = request(&json!({"b": 2, "a": {"y": [{"q": 2, "p": 1}], "x": 1}}));
        assert!(one.is_some());
        assert_eq!(one, other);
        assert_ne!(
            one,
            request(&json!({"a": {"x": 1, "y": [{"p": 2, "q": 1}]}, "b": 2}))
        );
        assert_ne!(
            request(&json!({"a": [1, 2]})),
            request(&json!({"a": [2, 1]}))
        );
    }
}
