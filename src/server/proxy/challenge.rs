//! How clients of ComfyUI's API authenticate: also by HTTP basic, because they know no tokens.

use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};

use crate::server::response::Body;

/// The challenge of RFC 7617: browsers ask for a password, which is the token.
const BASIC: HeaderValue =
    HeaderValue::from_static("Basic realm=\"comfy-relay\", charset=\"UTF-8\"");

/// Offers HTTP basic beside bearer tokens to a client that has no valid token.
pub(super) fn add_basic(response: &mut Response<Body>) {
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().append(WWW_AUTHENTICATE, BASIC);
    }
}
