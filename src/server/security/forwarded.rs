//! What trusted proxies say of a client: its address, and the one that it has used.

use std::net::{IpAddr, SocketAddr};

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The proxies whose `Forwarded` and `X-Forwarded-` headers are believed.
#[derive(Debug)]
pub(super) struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    pub(super) fn new(trusted: Vec<IpNet>) -> Self {
        Self(trusted)
    }

    pub(super) fn is_trusted(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of the client: the last one in the header that is not a trusted proxy's. A client can
    /// forge all that precede it.
    pub(super) fn client_ip(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.is_trusted(peer) {
            return peer;
        }
        let forwarded = self.last_untrusted(peer, &forwarded(headers)).0;
        let x_forwarded = self
            .last_untrusted(peer, &list(headers, &X_FORWARDED_FOR))
            .0;
        match (
            headers.contains_key(FORWARDED),
            headers.contains_key(X_FORWARDED_FOR),
        ) {
            (true, false) => forwarded,
            (false, true) => x_forwarded,
            // A proxy sets one of the two headers, and may pass on the other as the client forged it.
            (true, true) if forwarded == x_forwarded => forwarded,
            _ => peer,
        }
    }

    /// The element of `Forwarded` that names the client: the proxy that has added it was the first that the
    /// client reached.
    pub(super) fn client_element(&self, peer: IpAddr, headers: &HeaderMap) -> Option<String> {
        let index = self.last_untrusted(peer, &forwarded(headers)).1;
        list(headers, &FORWARDED).into_iter().nth(index)
    }

    /// The address of the client, and which hop names it. `hops` are in the order in which the proxies added
    /// them.
    fn last_untrusted(&self, peer: IpAddr, hops: &[String]) -> (IpAddr, usize) {
        let mut known = peer;
        for (index, hop) in hops.iter().enumerate().rev() {
            match address(hop) {
                Some(address) => known = address,
                // Obfuscated or unknown (RFC 7239, section 6): the proxy that named it counts in its place.
                None => return (known, index),
            }
            if !self.is_trusted(known) {
                return (known, index);
            }
        }
        (known, 0)
    }
}

/// The values of a list header, over all its lines.
pub(super) fn list(headers: &HeaderMap, name: &HeaderName) -> Vec<String> {
    let lines = headers.get_all(name).into_iter();
    // A line that is not text counts as one unknown hop.
    let texts = lines.map(|line| line.to_str().unwrap_or_default());
    let values = texts.flat_map(|line| split(line, ','));
    values.map(|value| value.trim().to_owned()).collect()
}

/// The `for` parameter of every element (RFC 7239); empty if it has none.
fn forwarded(headers: &HeaderMap) -> Vec<String> {
    let elements = list(headers, &FORWARDED);
    let hops = elements
        .iter()
        .map(|element| parameter(element, "for").unwrap_or_default());
    hops.collect()
}

/// A parameter of an element of `Forwarded`.
pub(super) fn parameter(element: &str, name: &str) -> Option<String> {
    let mut pairs = split(element, ';').filter_map(|pair| pair.trim().split_once('='));
    let (_, value) = pairs.find(|(key, _)| key.trim().eq_ignore_ascii_case(name))?;
    Some(value.trim().trim_matches('"').to_owned())
}

/// Splits at separators outside quotes.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut is_quoted = false;
    text.split(move |c: char| {
        is_quoted ^= c == '"';
        c == separator && !is_quoted
    })
}

/// An address with or without port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let address = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let with_port = || Some(text.parse::<SocketAddr>().ok()?.ip());
    address
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn client_ip(peer: &str, lines: &[(HeaderName, &str)]) -> String {
        let trusted = ["127.0.0.0/8", "10.0.0.0/8", "fd00::/8"];
        let proxies = TrustedProxies::new(trusted.map(|net| net.parse().unwrap()).to_vec());
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        proxies
            .client_ip(peer.parse().unwrap(), &headers)
            .to_string()
    }

    #[test]
    fn headers_of_untrusted_peers_are_ignored() {
        let forged = [(X_FORWARDED_FOR, "10.0.0.1"), (FORWARDED, "for=10.0.0.1")];
        assert_eq!(client_ip("192.0.2.9", &forged[..1]), "192.0.2.9");
        assert_eq!(client_ip("192.0.2.9", &forged[1..]), "192.0.2.9");
    }

    #[test]
    fn the_last_hop_that_is_not_a_trusted_proxy_counts() {
        for (value, found) in [
            ("192.0.2.1", "192.0.2.1"),
            ("198.51.100.7, 192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, 10.0.0.2", "192.0.2.1"),
            ("10.0.0.9, 10.0.0.2", "10.0.0.9"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("192.0.2.1, nonsense", "127.0.0.1"),
            ("192.0.2.1, nonsense, 10.0.0.2", "10.0.0.2"),
            ("", "127.0.0.1"),
        ] {
            assert_eq!(
                client_ip("127.0.0.1", &[(X_FORWARDED_FOR, value)]),
                found,
                "{value:?}"
            );
        }
    }

    #[test]
    fn the_forwarded_header_is_read_as_rfc_7239_defines_it() {
        for (value, found) in [
            ("for=192.0.2.1", "192.0.2.1"),
            ("For=192.0.2.1;proto=https;by=10.0.0.2", "192.0.2.1"),
            ("proto=https; for=\"192.0.2.1:4711\"", "192.0.2.1"),
            ("for=\"[2001:db8::1]:4711\"", "2001:db8::1"),
            ("for=198.51.100.7, for=192.0.2.1, for=10.0.0.2", "192.0.2.1"),
            ("for=\"198.51.100.7, for=192.0.2.1\"", "127.0.0.1"),
            ("for=unknown", "127.0.0.1"),
            ("for=192.0.2.1, for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("proto=https", "127.0.0.1"),
        ] {
            assert_eq!(
                client_ip("127.0.0.1", &[(FORWARDED, value)]),
                found,
                "{value:?}"
            );
        }
    }

    #[test]
    fn several_header_lines_are_one_list() {
        let lines = [
            (X_FORWARDED_FOR, "198.51.100.7"),
            (X_FORWARDED_FOR, "192.0.2.1"),
        ];
        assert_eq!(client_ip("127.0.0.1", &lines), "192.0.2.1");
    }

    #[test]
    fn two_headers_that_disagree_are_ignored() {
        let lines = [
            (X_FORWARDED_FOR, "192.0.2.1"),
            (FORWARDED, "for=198.51.100.7"),
        ];
        assert_eq!(client_ip("127.0.0.1", &lines), "127.0.0.1");
        let lines = [(X_FORWARDED_FOR, "192.0.2.1"), (FORWARDED, "for=192.0.2.1")];
        assert_eq!(client_ip("127.0.0.1", &lines), "192.0.2.1");
    }
}
