//! Where a request carries its token.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hyper::header::HeaderName;
use hyper::{HeaderMap, Request, header};

use crate::auth::Token;

/// The authentication scheme (RFC 6750), and the WebSocket subprotocol that precedes a token.
pub(in crate::server) const SCHEME: &str = "bearer";

/// The authentication scheme of RFC 7617.
const BASIC: &str = "basic";

/// The header in which clients of other APIs carry a key.
pub(in crate::server) const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// The token of a request: in `Authorization`, or `X-API-Key`; in `Sec-WebSocket-Protocol`, the only header that a
/// browser lets pages set on a WebSocket; or in the query, for clients that can set neither. With `takes_basic` also as the
/// password of HTTP basic (RFC 7617), of any user.
pub(super) fn token<B>(request: &Request<B>, takes_basic: bool) -> Option<Token> {
    let headers = request.headers();
    authorization(headers, SCHEME)
        .or_else(|| password(headers).filter(|_| takes_basic))
        .or_else(|| api_key(headers))
        .or_else(|| protocol(headers))
        .or_else(|| query(request.uri().query()?))
        .map(Token::new)
}

/// Whether a client offers the subprotocol `bearer`. It is selected even if no token is required: browsers
/// fail a connection if none of the offered subprotocols is selected.
pub(in crate::server) fn is_offered(headers: &HeaderMap) -> bool {
    protocols(headers).any(|word| word.eq_ignore_ascii_case(SCHEME))
}

/// The credentials of a scheme.
fn authorization(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credentials) = value.split_once(' ')?;
    let credentials = credentials.trim();
    (scheme.eq_ignore_ascii_case(wanted) && !credentials.is_empty()).then(|| credentials.to_owned())
}

fn password(headers: &HeaderMap) -> Option<String> {
    let encoded = authorization(headers, BASIC)?;
    let decoded = BASE64_STANDARD.decode(encoded).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    (!password.is_empty()).then(|| password.to_owned())
}

fn api_key(headers: &HeaderMap) -> Option<String> {
    let key = headers.get(API_KEY)?.to_str().ok()?.trim();
    (!key.is_empty()).then(|| key.to_owned())
}

/// The subprotocol after `bearer` in the list.
fn protocol(headers: &HeaderMap) -> Option<String> {
    let mut words = protocols(headers);
    words.find(|word| word.eq_ignore_ascii_case(SCHEME))?;
    words.next().map(str::to_owned)
}

fn protocols(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lists = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).into_iter();
    let texts = lists.filter_map(|list| list.to_str().ok());
    texts.flat_map(|list| list.split(',').map(str::trim))
}

fn query(query: &str) -> Option<String> {
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    let found = pairs.find(|(name, value)| name == "token" && !value.is_empty());
    found.map(|(_, value)| value.into_owned())
}
