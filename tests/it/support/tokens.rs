//! Settings that require tokens, and the tokens of clients.

use comfy_relay::config::{AccessConfig, KeySource, Secret, ServerConfig};
use jiff::Timestamp;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;

use super::subscriber::{Received, Subscriber};

/// The secret of the relay's tokens.
pub(crate) const SECRET: &str = "a secret of more than thirty-two bytes, known to nobody";

/// Settings under which clients need tokens that are signed with [`SECRET`].
pub(crate) fn guarded() -> ServerConfig {
    let keys = KeySource::Secret(Secret::from(SECRET.to_owned()));
    ServerConfig {
        access: AccessConfig {
            keys: Some(keys),
            ..AccessConfig::default()
        },
        ..ServerConfig::default()
    }
}

/// The Unix time in so many seconds.
pub(crate) fn in_seconds(seconds: i64) -> i64 {
    Timestamp::now().as_second() + seconds
}

/// Claims that permit everything for an hour.
pub(crate) fn everything() -> Value {
    json!({
        "sub": "ada",
        "jobs": "*",
        "scope": "subscribe submit progress cancel monitor",
        "exp": in_seconds(3_600),
    })
}

/// [`everything`] with some claims replaced; `null` removes one.
pub(crate) fn claims(changes: &Value) -> Value {
    let mut claims = everything();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

/// A token with these changes to [`everything`].
pub(crate) fn token(changes: &Value) -> String {
    signed(&claims(changes))
}

/// A token with exactly these claims.
pub(crate) fn signed(claims: &Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    encode(&Header::default(), claims, &key).unwrap()
}

/// A WebSocket request with further headers.
pub(crate) fn upgrade(url: &str, headers: &[(&'static str, &str)]) -> Request {
    let mut request = url.into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

/// What a refused client receives: the code of the `error` message, and the close code.
pub(crate) async fn refusal(request: Request) -> (String, u16) {
    let mut subscriber = Subscriber::connect(request).await;
    let Received::Text(greeting) = subscriber.receive().await else {
        panic!("no greeting");
    };
    assert_eq!(greeting["type"], "connection");
    let code = subscriber.close_code().await;
    assert!(subscriber.states.is_empty(), "{:?}", subscriber.states);
    let [error] = subscriber.errors.as_slice() else {
        panic!("{:?}", subscriber.errors);
    };
    (error["code"].as_str().unwrap().to_owned(), code)
}
