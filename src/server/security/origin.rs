//! Which web pages may use the relay.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use url::{Host, Url};

use crate::config::Origins;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};

/// How long a browser remembers what it was told of a page, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");

/// What pages may send beside what every request has.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, last-event-id");

/// What pages may read beside the usual.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, www-authenticate");

/// Holds web pages apart: those that may use the relay, and all others that somebody's browser shows.
#[derive(Debug)]
pub(super) struct OriginPolicy {
    origins: Origins,
    listen: SocketAddr,
}

/// What a page that has asked is told beside its answer.
#[derive(Debug)]
pub(in crate::server) struct CorsHeaders(Option<HeaderValue>);

impl OriginPolicy {
    /// `listen` is where the relay listens.
    pub(super) fn new(origins: Origins, listen: SocketAddr) -> Self {
        Self { origins, listen }
    }

    /// Refuses names that lead here, but are not ours: a page whose own name is made to lead to the
    /// relay counts as the relay's own otherwise. Only where the relay is for its own machine: elsewhere
    /// its names are not known.
    pub(super) fn check_host<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let is_asked = self.listen.ip().is_loopback() && self.origins == Origins::Same;
        let Some(host) = host(request).filter(|_| is_asked) else {
            return Ok(());
        };
        let ours = |url: &Url| match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => self.is_ours(address.into()),
            Some(Host::Ipv6(address)) => self.is_ours(address.into()),
            None => false,
        };
        match at("http", host).is_some_and(|url| ours(&url)) {
            true => Ok(()),
            false => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "host_not_allowed",
                "this relay is for its own machine, and does not know the name it was asked by; \
                 ask http://localhost, or name the pages that may use it with ALLOWED_ORIGINS",
            )),
        }
    }

    fn is_ours(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || address == self.listen.ip()
    }

    /// Refuses what other pages do: to open sockets, which no browser asks us before, and to change
    /// anything. What they read is withheld from them by their browsers.
    pub(super) fn check_origin<B>(
        &self,
        request: &Request<B>,
        opens: bool,
    ) -> Result<(), ApiError> {
        let does = opens || !matches!(*request.method(), Method::GET | Method::HEAD);
        match !does || self.allows(request) {
            true => Ok(()),
            false => Err(ApiError::new(
                StatusCode::FORBIDDEN,
                "origin_not_allowed",
                "pages of this origin may not use the relay; name it in ALLOWED_ORIGINS",
            )),
        }
    }

    fn allows<B>(&self, request: &Request<B>) -> bool {
        let Some(origin) = request.headers().get(header::ORIGIN) else {
            return true;
        };
        let Some(page) = origin.to_str().ok().and_then(|text| Url::parse(text).ok()) else {
            return false;
        };
        let is_own = || {
            let own = host(request).and_then(|host| at(page.scheme(), host));
            own.is_some_and(|own| own.origin() == page.origin())
        };
        match &self.origins {
            Origins::Any => true,
            Origins::Same => is_own(),
            Origins::Listed(listed) => {
                listed.iter().any(|url| url.origin() == page.origin()) || is_own()
            }
        }
    }

    /// What the page that asks is told.
    pub(super) fn cors_headers<B>(&self, request: &Request<B>) -> CorsHeaders {
        let origin = request.headers().get(header::ORIGIN);
        CorsHeaders(origin.filter(|_| self.allows(request)).cloned())
    }

    /// The answer to a browser that asks whether a page may ask; `None` for any other request.
    pub(super) fn preflight<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let headers = request.headers();
        let is_preflight = *request.method() == Method::OPTIONS
            && headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !is_preflight {
            return None;
        }
        let mut response = response::empty(StatusCode::NO_CONTENT);
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        Some(response)
    }
}

impl CorsHeaders {
    /// Adds to an answer which page may read it.
    pub(in crate::server) fn add(self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.0 {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// The name that the relay was asked by.
fn host<B>(request: &Request<B>) -> Option<&str> {
    let told = request.headers().get(header::HOST);
    // A header that is no text is no name of ours.
    told.map(|host| host.to_str().unwrap_or_default())
}

/// The address of a host and port under a scheme.
fn at(scheme: &str, host: &str) -> Option<Url> {
    let host: hyper::http::uri::Authority = host.parse().ok()?;
    let is_bare = !host.as_str().contains('@');
    is_bare.then(|| Url::parse(&format!("{scheme}://{host}/")).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(origin: Option<&str>, host: &str) -> Request<()> {
        let mut request = Request::builder().method("POST").header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        request.body(()).unwrap()
    }

    fn pages(origins: Origins, listen: &str) -> OriginPolicy {
        OriginPolicy::new(origins, listen.parse().unwrap())
    }

    #[test]
    fn the_relays_own_pages_are_told_from_others() {
        let pages = pages(Origins::Same, "0.0.0.0:8328");
        for (origin, host, is_allowed) in [
            (None, "relay.example", true),
            (Some("http://relay.example"), "relay.example", true),
            (Some("http://relay.example"), "relay.example:80", true),
            (Some("https://relay.example"), "relay.example", true),
            (
                Some("http://Relay.Example:8328"),
                "relay.example:8328",
                true,
            ),
            (Some("http://[::1]:8328"), "[::1]:8328", true),
            (
                Some("http://relay.example:8329"),
                "relay.example:8328",
                false,
            ),
            (Some("http://evil.example"), "relay.example", false),
            (
                Some("http://relay.example.evil.example"),
                "relay.example",
                false,
            ),
            (
                Some("http://evil.example@relay.example"),
                "relay.example",
                true,
            ),
            (Some("http://relay.example"), "x@relay.example", false),
            (Some("null"), "relay.example", false),
            (Some("file://"), "relay.example", false),
            (Some(""), "relay.example", false),
            (Some("http://relay.example"), "", false),
        ] {
            let request = request(origin, host);
            assert_eq!(pages.allows(&request), is_allowed, "{origin:?} at {host}");
        }
    }

    #[test]
    fn pages_are_listed_by_their_origin() {
        let listed = vec![Url::parse("https://app.example").unwrap()];
        let listed = pages(Origins::Listed(listed), "127.0.0.1:1");
        for (origin, is_allowed) in [
            ("https://app.example", true),
            ("https://app.example:443", true),
            ("http://app.example", false),
            ("https://x.app.example", false),
            ("http://localhost:1", true),
        ] {
            let request = request(Some(origin), "localhost:1");
            assert_eq!(listed.allows(&request), is_allowed, "{origin}");
        }
        let any = pages(Origins::Any, "127.0.0.1:1");
        assert!(any.allows(&request(Some("https://evil.example"), "localhost:1")));
    }

    #[test]
    fn names_that_were_made_to_lead_here_are_not_ours() {
        for (listen, host, is_ours) in [
            ("127.0.0.1:8328", "localhost:8328", true),
            ("127.0.0.1:8328", "LOCALHOST", true),
            ("127.0.0.1:8328", "relay.localhost:8328", true),
            ("127.0.0.1:8328", "127.0.0.1:8328", true),
            ("127.0.0.1:8328", "[::1]:8328", true),
            ("127.0.0.1:8328", "evil.example:8328", false),
            ("127.0.0.1:8328", "localhost.evil.example", false),
            ("127.0.0.1:8328", "192.0.2.1", false),
            ("127.0.0.1:8328", "x@localhost", false),
            ("127.0.0.1:8328", "", false),
            ("0.0.0.0:8328", "relay.example:8328", true),
        ] {
            let pages = pages(Origins::Same, listen);
            let found = pages.check_host(&request(None, host)).is_ok();
            assert_eq!(found, is_ours, "{host} at {listen}");
        }
    }
}
