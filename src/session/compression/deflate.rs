//! Whether a client's messages are compressed: `permessage-deflate` (RFC 7692).

use hyper::HeaderMap;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

/// What is agreed to. Without context takeover a message is compressed once for all clients, and no
/// memory is held for any of them between two messages.
pub(crate) const AGREED: HeaderValue = HeaderValue::from_static(
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
);

/// The largest window, in bits: ours.
const WINDOW: &str = "15";

/// Whether a client's handshake offers what we agree to.
pub(crate) fn is_offered(headers: &HeaderMap) -> bool {
    let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    let offers = values.filter_map(|value| value.to_str().ok());
    offers.flat_map(|offers| offers.split(',')).any(is_fit)
}

/// An offer that asks for a smaller window than ours, or for anything unknown, is not fit.
fn is_fit(offer: &str) -> bool {
    let mut words = offer.split(';').map(str::trim);
    words.next() == Some("permessage-deflate")
        && words.all(|parameter| {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (parameter, None),
            };
            match name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                "client_max_window_bits" => true,
                "server_max_window_bits" => value == Some(WINDOW),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_browsers_offer_is_taken() {
        assert!(is_fit("permessage-deflate"));
        assert!(is_fit(" permessage-deflate; client_max_window_bits"));
        assert!(is_fit(
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=\"15\""
        ));
        let mut headers = HeaderMap::new();
        let offers = "permessage-deflate; server_max_window_bits=9, permessage-deflate";
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offers));
        assert!(is_offered(&headers), "the second offer is fit");
    }

    #[test]
    fn what_cannot_be_kept_is_not_agreed_to() {
        assert!(!is_fit("permessage-bzip2"));
        assert!(!is_fit("permessage-deflate; server_max_window_bits=10"));
        assert!(!is_fit("permessage-deflate; server_max_window_bits"));
        assert!(!is_fit("permessage-deflate; odd"));
        assert!(!is_offered(&HeaderMap::new()));
    }
}
