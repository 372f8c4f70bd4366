//! [`CorrelationId`]: the id of a request, by which its client, the proxies on the way and the log name it.

use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use tracing::Span;
use uuid::Uuid;

/// The header that carries it, in a request and in the response.
const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The most bytes of an id that a client chooses.
const MAX_LENGTH: usize = 128;

/// The id of a request: visible ASCII, at most [`MAX_LENGTH`] bytes, so that no id adds a line or a field to a log.
#[derive(Debug)]
pub(super) struct CorrelationId(HeaderValue);

impl CorrelationId {
    /// The id that the request has, or a new one if it has none that can be logged as it is.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER);
        let given = given.filter(|value| is_usable(value.as_bytes()));
        Self(given.cloned().unwrap_or_else(fresh))
    }

    /// The span of what is logged of the request. At the level of errors: whatever is logged at all has the id.
    pub(super) fn span(&self) -> Span {
        let id = self.0.to_str().unwrap_or_default();
        tracing::error_span!("request", id = %id)
    }

    /// Adds it to the response.
    pub(super) fn add(self, headers: &mut HeaderMap) {
        headers.insert(HEADER, self.0);
    }
}

fn is_usable(id: &[u8]) -> bool {
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic)
}

fn fresh() -> HeaderValue {
    let id = Uuid::new_v4().to_string();
    HeaderValue::try_from(id).expect("hexadecimal digits and hyphens are a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(given: &[u8]) -> HeaderValue {
        let mut headers = HeaderMap::new();
        headers.insert(HEADER, HeaderValue::from_bytes(given).unwrap());
        CorrelationId::of(&headers).0
    }

    #[test]
    fn an_id_that_could_forge_a_line_of_the_log_is_replaced() {
        let longest = "x".repeat(MAX_LENGTH);
        for kept in ["shot-12", "a/b:c;d={e}", longest.as_str()] {
            assert_eq!(id_of(kept.as_bytes()), kept);
        }
        let too_long = "x".repeat(MAX_LENGTH + 1);
        for replaced in ["", "two words", "tab\there", "\u{e9}", too_long.as_str()] {
            let id = id_of(replaced.as_bytes());
            assert!(Uuid::parse_str(id.to_str().unwrap()).is_ok(), "{replaced}");
        }
    }

    #[test]
    fn each_request_without_an_id_gets_another_one() {
        let ids = [(); 2].map(|()| CorrelationId::of(&HeaderMap::new()).0);
        assert_ne!(ids[0], ids[1]);
    }
}
