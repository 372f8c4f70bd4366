//! Which web pages may use the relay: same origin, CORS, and protection against DNS rebinding.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use url::{Host, Url};

use super::public_address::PublicAddress;
use crate::config::{Origins, PageOrigin};
use crate::server::error::ApiError;
use crate::server::response::{self, Body};

/// How long a browser caches the response to a preflight, in seconds.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");

/// The methods of the relay's own API, and those of ComfyUI and its extensions.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, DELETE");
const COMFY_METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// By what a browser says whether a request comes from a page of the same origin, of the same site, or of another site.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// The request headers that pages may set: for the relay's own API, and for that of ComfyUI, whose clients name their user and
/// themselves and ask for parts of files.
const HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, idempotency-key, last-event-id, x-api-key, x-request-id",
);
const COMFY_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, comfy-user, content-type, idempotency-key, last-event-id, range, user-agent, x-api-key, x-request-id",
);

/// The response headers that pages may read, of both.
const EXPOSED: HeaderValue =
    HeaderValue::from_static("retry-after, www-authenticate, x-request-id");
const COMFY_EXPOSED: HeaderValue = HeaderValue::from_static(
    "content-disposition, content-range, idempotency-replayed, retry-after, www-authenticate, x-request-id",
);

/// Why a `Host` is refused, by the relay's own API and by that of ComfyUI, of which `PUBLIC_URL` says nothing.
const WRONG_HOST: &str = "this relay serves its own machine only, and the Host header is not one of its names; \
     use http://localhost, list the pages that may use the relay in ALLOWED_ORIGINS, or name \
     the relay's own address in PUBLIC_URL";
const COMFY_WRONG_HOST: &str = "this relay serves its own machine only, and the Host header is not one of its names; \
     use http://localhost, or list the pages that may use ComfyUI's API in ALLOWED_ORIGINS, those of this address among them";

/// Decides which pages' requests are served. Programs other than browsers send no `Origin` and are not
/// restricted.
#[derive(Debug)]
pub(super) struct OriginPolicy {
    origins: Origins,
    listen: SocketAddr,
    /// Pages of this machine may use the relay, whatever their port: nothing else keeps its user's other
    /// programs out either.
    allows_loopback: bool,
    /// It is that of ComfyUI's API.
    is_comfy: bool,
}

/// The CORS headers of one response. Holds the origin that may read it, and the headers that it may read.
#[derive(Debug)]
pub(in crate::server) struct CorsHeaders(Option<(HeaderValue, HeaderValue)>);

impl OriginPolicy {
    /// `listen` is the address that the relay listens on; `needs_token` whether clients need a token.
    pub(super) fn new(origins: Origins, listen: SocketAddr, needs_token: bool) -> Self {
        Self {
            origins,
            listen,
            allows_loopback: !needs_token && listen.ip().to_canonical().is_loopback(),
            is_comfy: false,
        }
    }

    /// The same for ComfyUI's API, with the methods and headers of its clients.
    pub(super) fn for_comfy(self) -> Self {
        Self {
            is_comfy: true,
            ..self
        }
    }

    /// Refuses a `Host` that is not ours, if the relay listens on loopback only: otherwise a page whose
    /// domain resolves to 127.0.0.1 would count as same-origin (DNS rebinding). On other addresses the
    /// relay does not know its own names.
    pub(super) fn check_host<B>(
        &self,
        request: &Request<B>,
        configured: Option<&PublicAddress>,
    ) -> Result<(), ApiError> {
        let is_checked = self.listen.ip().is_loopback() && self.origins == Origins::Same;
        let Some(host) = host(request).filter(|_| is_checked) else {
            return Ok(());
        };
        let is_configured =
            configured.is_some_and(|address| address.host().eq_ignore_ascii_case(host));
        if is_configured || url_of("http", host).is_some_and(|url| self.is_local(&url)) {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            if self.is_comfy {
                COMFY_WRONG_HOST
            } else {
                WRONG_HOST
            },
        ))
    }

    /// Whether a URL leads to this machine by every resolver.
    fn is_local(&self, url: &Url) -> bool {
        let is_own =
            |address: IpAddr| address.to_canonical().is_loopback() || address == self.listen.ip();
        match url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(address)) => is_own(address.into()),
            Some(Host::Ipv6(address)) => is_own(address.into()),
            None => false,
        }
    }

    /// Refuses requests of other pages that change something or open a socket: browsers send some of them
    /// without a preflight. Responses to other requests are withheld from such a page by its browser.
    pub(super) fn check_origin<B>(
        &self,
        request: &Request<B>,
        address: &PublicAddress,
        opens_socket: bool,
    ) -> Result<(), ApiError> {
        let is_safe = !opens_socket && matches!(*request.method(), Method::GET | Method::HEAD);
        if is_safe || self.allows(request, address) {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            "pages of this origin may not use the relay; list it in ALLOWED_ORIGINS",
        ))
    }

    /// Refuses requests that pages of other sites have made a browser send, also those that only read, such as for an image: for
    /// routes of which it is not known what they do. ComfyUI refuses them by the same header, which does not reach it.
    pub(super) fn check_site<B>(
        &self,
        request: &Request<B>,
        address: &PublicAddress,
    ) -> Result<(), ApiError> {
        let headers = request.headers();
        let mut sites = headers.get_all(SEC_FETCH_SITE).iter();
        // Without an origin, which images and links do not have, the page is not known.
        let is_allowed = || {
            self.origins == Origins::Any
                || (headers.contains_key(header::ORIGIN) && self.allows(request, address))
        };
        if !sites.any(|site| site == "cross-site") || is_allowed() {
            return Ok(());
        }
        Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            "pages of other sites may not use this route; list their origin in ALLOWED_ORIGINS, and request it by fetch with CORS",
        ))
    }

    /// `address` is the one under which the client has reached the relay.
    fn allows<B>(&self, request: &Request<B>, address: &PublicAddress) -> bool {
        let Some(origin) = request.headers().get(header::ORIGIN) else {
            return true;
        };
        if self.origins == Origins::Any {
            return true;
        }
        if origin == "null" {
            return self.lists(&PageOrigin::Null);
        }
        let Some(page) = origin.to_str().ok().and_then(|text| Url::parse(text).ok()) else {
            return false;
        };
        let is_at = |host: &str| {
            let own = url_of(page.scheme(), host);
            own.is_some_and(|own| own.origin() == page.origin())
        };
        let is_web = matches!(page.scheme(), "http" | "https");
        is_at(address.host())
            || host(request).is_some_and(is_at)
            || (self.allows_loopback && is_web && self.is_local(&page))
            || self.lists(&PageOrigin::Site(page))
    }

    fn lists(&self, page: &PageOrigin) -> bool {
        let Origins::Listed(listed) = &self.origins else {
            return false;
        };
        listed.iter().any(|listed| match (listed, page) {
            (PageOrigin::Site(listed), PageOrigin::Site(page)) => listed.origin() == page.origin(),
            (listed, page) => listed == page,
        })
    }

    /// The CORS headers of the response to this request.
    pub(super) fn cors_headers<B>(
        &self,
        request: &Request<B>,
        address: &PublicAddress,
    ) -> CorsHeaders {
        let origin = request.headers().get(header::ORIGIN);
        let origin = origin.filter(|_| self.allows(request, address)).cloned();
        let exposed = if self.is_comfy {
            COMFY_EXPOSED
        } else {
            EXPOSED
        };
        CorsHeaders(origin.map(|origin| (origin, exposed)))
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
        let (methods, allowed) = if self.is_comfy {
            (COMFY_METHODS, COMFY_HEADERS)
        } else {
            (METHODS, HEADERS)
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        Some(response)
    }
}

impl CorsHeaders {
    /// Adds them to a response.
    pub(in crate::server) fn add(self, headers: &mut HeaderMap) {
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some((origin, exposed)) = self.0 {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
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
mod tests;
