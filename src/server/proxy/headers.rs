//! Which headers are passed on, in either direction.

use hyper::header::{
    self, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, FORWARDED, HOST, HeaderMap,
    HeaderName, ORIGIN, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, REFERER, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};

use crate::server::security::API_KEY;

/// The headers of a connection, not of what is sent over it (RFC 9110, section 7.6.1).
const OF_CONNECTION: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
];

/// Headers of a request that were for the relay: by whom it was sent, and from which page. The relay has checked them, and the
/// server would refuse a page of another origin than its own.
const FOR_THE_RELAY: [HeaderName; 8] = [
    API_KEY,
    AUTHORIZATION,
    EXPECT,
    FORWARDED,
    HOST,
    ORIGIN,
    REFERER,
    HeaderName::from_static("proxy-connection"),
];

/// How the names of further headers begin that were for the relay.
const FOR_THE_RELAY_BY_PREFIX: [&str; 3] = ["x-forwarded-", "sec-fetch-", "sec-websocket-"];

/// How the names of headers begin that say which pages may read an answer, which the relay decides.
const CORS_PREFIX: &str = "access-control-";

/// The headers of a request that are passed on to a server.
pub(super) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    remove_of_connection(&mut kept);
    // The length of the body that is sent is known there. With that of another one, a server would take the next request on its
    // connection for this body.
    kept.remove(CONTENT_LENGTH);
    for name in &FOR_THE_RELAY {
        kept.remove(name);
    }
    let is_for_the_relay = |name: &HeaderName| {
        let mut prefixes = FOR_THE_RELAY_BY_PREFIX.iter();
        prefixes.any(|prefix| name.as_str().starts_with(prefix))
    };
    remove_where(&mut kept, is_for_the_relay);
    kept
}

/// Removes from the headers of a server's answer what is not for the client.
pub(super) fn clean_answer(headers: &mut HeaderMap) {
    remove_of_connection(headers);
    // A client that answered it would send a password for the server to the relay.
    headers.remove(WWW_AUTHENTICATE);
    remove_where(headers, |name| name.as_str().starts_with(CORS_PREFIX));
}

fn remove_of_connection(headers: &mut HeaderMap) {
    let lists = headers.get_all(header::CONNECTION).into_iter();
    let names = lists.filter_map(|list| list.to_str().ok());
    let names = names.flat_map(|list| list.split(','));
    let named: Vec<HeaderName> = names.filter_map(|name| name.trim().parse().ok()).collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
}

fn remove_where(headers: &mut HeaderMap, is_removed: impl Fn(&HeaderName) -> bool) {
    let removed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_removed(name))
        .cloned()
        .collect();
    for name in removed {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pairs = pairs.iter();
        let pairs = pairs.map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, value.parse().unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn what_is_for_the_connection_or_the_relay_is_not_passed_on() {
        let sent = headers(&[
            ("connection", "keep-alive, X-Private"),
            ("x-private", "1"),
            ("authorization", "Bearer secret"),
            ("host", "relay"),
            ("origin", "http://relay"),
            ("sec-fetch-site", "cross-site"),
            ("x-forwarded-for", "192.0.2.1"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers"),
            ("content-length", "57"),
            ("comfy-user", "ada"),
            ("range", "bytes=0-1"),
        ]);
        let expected = headers(&[("comfy-user", "ada"), ("range", "bytes=0-1")]);
        assert_eq!(passed_on(&sent), expected);
    }

    #[test]
    fn the_relay_alone_says_which_pages_may_read_an_answer() {
        let mut answer = headers(&[
            ("access-control-allow-origin", "*"),
            ("www-authenticate", "Basic"),
            ("connection", "close"),
            ("etag", "\"1\""),
        ]);
        clean_answer(&mut answer);
        assert_eq!(answer, headers(&[("etag", "\"1\"")]));
    }
}
