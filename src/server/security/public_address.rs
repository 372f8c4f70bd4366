//! The address under which a client has reached the relay, also through a proxy.

use std::net::IpAddr;

use hyper::header::{self, HeaderMap, HeaderName};
use hyper::http::uri::Authority;
use url::Url;

use super::forwarded::{self, TrustedProxies};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// The address under which a client has reached the relay. Links in answers are made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct PublicAddress {
    is_secure: bool,
    /// Host and port.
    host: String,
    /// The path under which a proxy serves the relay, without a final slash; empty for the root.
    prefix: String,
}

/// What public addresses are found by.
#[derive(Debug)]
pub(super) struct AddressFinder {
    /// The configured address, which is always right.
    public_url: Option<PublicAddress>,
    /// Whether the relay itself speaks TLS.
    has_tls: bool,
    /// The address that the relay listens on, for clients that send no `Host`.
    listen: String,
}

impl AddressFinder {
    pub(super) fn new(public_url: Option<&Url>, has_tls: bool, listen: String) -> Self {
        Self {
            public_url: public_url.and_then(PublicAddress::of_url),
            has_tls,
            listen,
        }
    }

    /// The configured address.
    pub(super) fn configured(&self) -> Option<&PublicAddress> {
        self.public_url.as_ref()
    }

    /// The address of a request: the configured one; or what a trusted proxy says; or the one that the client
    /// itself has used.
    pub(super) fn find(
        &self,
        proxies: &TrustedProxies,
        peer: IpAddr,
        headers: &HeaderMap,
    ) -> PublicAddress {
        if let Some(configured) = &self.public_url {
            return configured.clone();
        }
        let mut address = PublicAddress {
            is_secure: self.has_tls,
            host: own_host(headers).unwrap_or_else(|| self.listen.clone()),
            prefix: String::new(),
        };
        if !proxies.is_trusted(peer) {
            return address;
        }
        let element = proxies.client_element(peer, headers).unwrap_or_default();
        let said = |name: &HeaderName, parameter: &str| {
            let last = forwarded::list(headers, name).pop();
            last.or_else(|| forwarded::parameter(&element, parameter))
        };
        match said(&X_FORWARDED_PROTO, "proto").as_deref() {
            Some("https" | "wss") => address.is_secure = true,
            Some("http" | "ws") => address.is_secure = false,
            _ => {}
        }
        if let Some(host) = said(&X_FORWARDED_HOST, "host").filter(|host| is_host(host)) {
            address.host = host;
        }
        let prefix = forwarded::list(headers, &X_FORWARDED_PREFIX).pop();
        if let Some(prefix) = prefix.filter(|prefix| is_path(prefix)) {
            prefix.trim_end_matches('/').clone_into(&mut address.prefix);
        }
        address
    }
}

impl PublicAddress {
    /// `None` for a URL without a host, which the settings refuse.
    pub(super) fn of_url(url: &Url) -> Option<Self> {
        let host = url.host_str()?;
        Some(Self {
            is_secure: url.scheme() == "https",
            host: url
                .port()
                .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")),
            prefix: url.path().trim_end_matches('/').to_owned(),
        })
    }

    /// Host and port.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// The URL of a path of the relay.
    pub(in crate::server) fn url(&self, path: &str) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://{}{}{path}", self.host, self.prefix)
    }

    /// The path of a path of the relay, as the client has to send it.
    pub(in crate::server) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The URL of a socket at a path of the relay.
    pub(in crate::server) fn socket_url(&self, path: &str) -> String {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        format!("{scheme}://{}{}{path}", self.host, self.prefix)
    }

    /// Where a request for the prefix itself belongs: the links of the page are relative to its slash.
    pub(in crate::server) fn with_slash(&self, path: &str) -> Option<String> {
        let is_prefix = !self.prefix.is_empty() && path == self.prefix;
        is_prefix.then(|| format!("{path}/"))
    }

    /// The path of a request without the prefix: some proxies remove it, and others pass it on.
    pub(in crate::server) fn strip_prefix<'a>(&self, path: &'a str) -> &'a str {
        let below = path.strip_prefix(&self.prefix);
        below.filter(|below| below.starts_with('/')).unwrap_or(path)
    }
}

/// The host and port of the `Host` header, if it is usable.
fn own_host(headers: &HeaderMap) -> Option<String> {
    let host = headers.get(header::HOST)?.to_str().ok()?;
    is_host(host).then(|| host.to_owned())
}

/// Whether a text is a host, with or without a port.
fn is_host(text: &str) -> bool {
    !text.contains('@') && text.parse::<Authority>().is_ok()
}

/// Whether a text is a path that can stand before others.
fn is_path(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-._~%".contains(c);
    text.starts_with('/') && !text.starts_with("//") && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use hyper::header::{FORWARDED, HeaderValue};

    use super::*;

    fn finder(public_url: Option<&str>) -> AddressFinder {
        let url = public_url.map(|url| Url::parse(url).unwrap());
        AddressFinder::new(url.as_ref(), false, "127.0.0.1:8328".to_owned())
    }

    fn socket_url(finder: &AddressFinder, peer: &str, lines: &[(HeaderName, &str)]) -> String {
        let proxies = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()]);
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_str(value).unwrap());
        }
        let address = finder.find(&proxies, peer.parse().unwrap(), &headers);
        address.socket_url("/ws/j")
    }

    #[test]
    fn a_trusted_proxy_names_scheme_host_and_prefix() {
        let host = (header::HOST, "127.0.0.1:8328");
        for (lines, url) in [
            (vec![], "ws://127.0.0.1:8328/ws/j"),
            (
                vec![
                    (X_FORWARDED_PROTO, "https"),
                    (X_FORWARDED_HOST, "studio.example"),
                    (X_FORWARDED_PREFIX, "/relay"),
                ],
                "wss://studio.example/relay/ws/j",
            ),
            (
                vec![(X_FORWARDED_HOST, "evil.example, studio.example:8443")],
                "ws://studio.example:8443/ws/j",
            ),
            (
                vec![(
                    FORWARDED,
                    "for=192.0.2.1;proto=https;host=\"studio.example:8443\"",
                )],
                "wss://studio.example:8443/ws/j",
            ),
            (
                vec![(
                    FORWARDED,
                    "for=192.0.2.1;host=studio.example;proto=https, for=10.0.0.9;host=inner",
                )],
                "wss://studio.example/ws/j",
            ),
            (
                vec![
                    (X_FORWARDED_HOST, "a@evil.example"),
                    (X_FORWARDED_PROTO, "gopher"),
                    (X_FORWARDED_PREFIX, "//evil.example"),
                ],
                "ws://127.0.0.1:8328/ws/j",
            ),
        ] {
            let lines = [vec![host.clone()], lines].concat();
            assert_eq!(socket_url(&finder(None), "10.0.0.1", &lines), url);
        }
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let lines = [
            (header::HOST, "relay.example"),
            (X_FORWARDED_PROTO, "https"),
            (X_FORWARDED_HOST, "evil.example"),
            (FORWARDED, "host=evil.example"),
        ];
        let found = socket_url(&finder(None), "192.0.2.1", &lines);
        assert_eq!(found, "ws://relay.example/ws/j");
        assert_eq!(
            socket_url(&finder(None), "192.0.2.1", &[]),
            "ws://127.0.0.1:8328/ws/j"
        );
    }

    #[test]
    fn the_configured_address_wins() {
        let finder = finder(Some("https://studio.example:8443/relay/"));
        let lines = [(X_FORWARDED_HOST, "other.example")];
        let found = socket_url(&finder, "10.0.0.1", &lines);
        assert_eq!(found, "wss://studio.example:8443/relay/ws/j");
        let address = finder.configured().unwrap();
        for (path, stripped) in [
            ("/relay/ws/j", "/ws/j"),
            ("/ws/j", "/ws/j"),
            ("/relay/", "/"),
            ("/relayed/x", "/relayed/x"),
        ] {
            assert_eq!(address.strip_prefix(path), stripped);
        }
        assert_eq!(address.with_slash("/relay").as_deref(), Some("/relay/"));
        assert_eq!(address.with_slash("/relay/"), None);
    }
}
