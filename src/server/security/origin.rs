//! Which web pages may use the relay: same origin, CORS, and protection against DNS rebinding.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use url::{Host, Url};

use crate::config::Origins;
use crate::server::error::ApiError;
use crate::server::response::{self, Body};

/// How long a browser caches the response to a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

const METHODS: HeaderValue = HeaderValue::from_static("GET, POST");

/// The request headers that pages may set.
const HEADERS: HeaderValue = HeaderValue::from_static("authorization, content-type, last-event-id");

/// The response headers that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static("retry-after, www-authenticate");

/// Decides which pages' requests are served. Programs other than browsers send no `Origin` and are not
/// restricted.
#[derive(Debug)]
pub(super) struct OriginPolicy {
    origins: Origins,
    listen: SocketAddr,
}

/// The CORS headers of one response. Holds the origin that may read it.
#[derive(Debug)]
pub(in crate::server) struct CorsHeaders(Option<HeaderValue>);

impl OriginPolicy {
    /// `listen` is the address that the relay listens on.
    pub(super) fn new(origins: Origins, listen: SocketAddr) -> Self {
        Self { origins, listen }
    }

    /// Refuses a `Host` that is not ours, if the relay listens on loopback only: otherwise a page whose
    /// domain resolves to 127.0.0.1 would count as same-origin (DNS rebinding). On other addresses the
    /// relay does not know its own names.
    pub(super) fn check_host<B>(&self, request: &Request<B>) -> Result<(), ApiError> {
        let is_checked = self.listen.ip().is_loopback() && self.origins == Origins::Same;
        let Some(host) = host(request).filter(|_| is_checked) else {
            return Ok(());
        };
        let is_ours = |url: &Url| match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => self.is_local(address.into()),
            Some(Host::Ipv6(address)) => self.is_local(address.into()),
            None => false,
        };
        if url_of("http", host).is_some_and(|url| is_ours(&url)) {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            "this relay serves its own machine only, and the Host header is not one of its names; \
             use http://localhost, or list the pages that may use the relay in ALLOWED_ORIGINS",
        ))
    }

    fn is_local(&self, address: IpAddr) -> bool {
        address.to_canonical().is_loopback() || address == self.listen.ip()
    }

    /// Refuses requests of other pages that change something or open a socket: browsers send some of them
    /// without a preflight. Responses to other requests are withheld from such a page by its browser.
    pub(super) fn check_origin<B>(
        &self,
        request: &Request<B>,
        opens_socket: bool,
    ) -> Result<(), ApiError> {
        let is_safe = !opens_socket && matches!(*request.method(), Method::GET | Method::HEAD);
        if is_safe || self.allows(request) {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            "pages of this origin may not use the relay; list it in ALLOWED_ORIGINS",
        ))
    }

    fn allows<B>(&self, request: &Request<B>) -> bool {
        let Some(origin) = request.headers().get(header::ORIGIN) else {
            return true;
        };
        let Some(page) = origin.to_str().ok().and_then(|text| Url::parse(text).ok()) else {
            return false;
        };
        let is_own = || {
            let own = host(request).and_then(|host| url_of(page.scheme(), host));
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

    /// The CORS headers of the response to this request.
    pub(super) fn cors_headers<B>(&self, request: &Request<B>) -> CorsHeaders {
        let origin = request.headers().get(header::ORIGIN);
        CorsHeaders(origin.filter(|_| self.allows(request)).cloned())
    }

    /// The response to a CORS preflight; `None` if the request is not one.
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
    /// Adds them to a response.
    pub(in crate::server) fn add(self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.0 {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        }
    }
}

/// The `Host` header; empty if it is not text.
fn host<B>(request: &Request<B>) -> Option<&str> {
    let host = request.headers().get(header::HOST)?;
    Some(host.to_str().unwrap_or_default())
}

/// The root URL of a host and port.
fn url_of(scheme: &str, host: &str) -> Option<Url> {
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

    fn policy(origins: Origins, listen: &str) -> OriginPolicy {
        OriginPolicy::new(origins, listen.parse().unwrap())
    }

    #[test]
    fn the_relays_own_pages_are_recognised() {
        let policy = policy(Origins::Same, "0.0.0.0:8328");
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
            assert_eq!(policy.allows(&request), is_allowed, "{origin:?} at {host}");
        }
    }

    #[test]
    fn a_listed_page_is_recognised_by_its_origin() {
        let listed = vec![Url::parse("https://app.example").unwrap()];
        let listed = policy(Origins::Listed(listed), "127.0.0.1:1");
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
        let any = policy(Origins::Any, "127.0.0.1:1");
        assert!(any.allows(&request(Some("https://evil.example"), "localhost:1")));
    }

    #[test]
    fn a_foreign_name_that_resolves_to_loopback_is_refused() {
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
            let policy = policy(Origins::Same, listen);
            let found = policy.check_host(&request(None, host)).is_ok();
            assert_eq!(found, is_ours, "{host} at {listen}");
        }
    }
}
