//! Requests that any server can answer: they are passed on as they are, and so are the answers.

use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::{Request, Response, StatusCode};
use url::form_urlencoded;

use super::headers;
use super::paced_body::PacedBody;
use crate::relay::ForwardedRequest;
use crate::server::error::ApiError;
use crate::server::response::Body;
use crate::server::state::ServerState;

/// The type of a stream of events.
const EVENTS: &[u8] = b"text/event-stream";

/// The parameter of a query that carries a token for the relay.
const TOKEN: &str = "token";

/// Passes a request on to the first server that answers. Neither body is held: each is as long as it is.
pub(super) async fn pass_through(
    state: &ServerState,
    request: Request<Incoming>,
) -> Result<Response<Body>, ApiError> {
    let response = state.relay.forward(forwarded(state, request)).await?;
    clean(state, response)
}

/// What is passed on of a request.
pub(super) fn forwarded(state: &ServerState, request: Request<Incoming>) -> ForwardedRequest {
    let (head, body) = request.into_parts();
    let needs_token = state.config.access.keys.is_some();
    let query = head.uri.query().map(|query| {
        if needs_token {
            without_token(query)
        } else {
            query.to_owned()
        }
    });
    let body = (!body.is_end_stream()).then(|| {
        let paced = PacedBody::new(body, "request", state.config.body_timeout);
        reqwest::Body::wrap(paced)
    });
    ForwardedRequest {
        method: head.method,
        path: head.uri.path().to_owned(),
        query: query.filter(|query| !query.is_empty()),
        headers: headers::passed_on(&head.headers),
        body,
    }
}

/// What a client gets of a server's answer, which is given up where it does not go on. A stream of events may be silent.
pub(super) fn clean(
    state: &ServerState,
    mut response: Response<Body>,
) -> Result<Response<Body>, ApiError> {
    if response.status() == StatusCode::UNAUTHORIZED {
        return Err(ApiError::new(
            StatusCode::BAD_GATEWAY,
            "backend_failed",
            "ComfyUI refuses the credentials of the relay (COMFYUI_URL, COMFYUI_TOKEN)",
        ));
    }
    headers::clean_answer(response.headers_mut());
    let media_type = response.headers().get(CONTENT_TYPE);
    if media_type.is_some_and(|it| it.as_bytes().starts_with(EVENTS)) {
        return Ok(response);
    }
    let patience = state.config.body_timeout;
    Ok(response.map(|body| PacedBody::new(body, "answer", patience).boxed_unsync()))
}

/// A query without the token for the relay. The others stay as they are encoded.
fn without_token(query: &str) -> String {
    // Read as the relay reads the query when it looks for the token: `%74oken` is `token`.
    let is_token = |pair: &&str| {
        let mut named = form_urlencoded::parse(pair.as_bytes());
        named.next().is_some_and(|(name, _)| name == TOKEN)
    };
    let others: Vec<&str> = query.split('&').filter(|pair| !is_token(pair)).collect();
    others.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_is_taken_out_of_a_query() {
        assert_eq!(
            without_token("a=1%2F&token=x&tokens=2&b"),
            "a=1%2F&tokens=2&b"
        );
        assert_eq!(without_token("token=x"), "");
        assert_eq!(
            without_token("%74oken=x&tok%65n=y&%2574oken=z"),
            "%2574oken=z"
        );
    }
}
