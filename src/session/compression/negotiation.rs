use hyper::HeaderMap;
use hyper::header::{HeaderValue, SEC_WEBSOCKET_EXTENSIONS};

/// What the server agrees to. Without context takeover a message is compressed once for all clients, and
/// no memory is held for a client between two messages.
pub(crate) const ACCEPTED: HeaderValue = HeaderValue::from_static(
    "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
);

/// The size of the server's LZ77 window, as the base-2 logarithm: the largest that there is.
const WINDOW_BITS: &str = "15";

/// Whether the headers of a handshake offer what the server agrees to.
pub(crate) fn is_offered(headers: &HeaderMap) -> bool {
    let values = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).iter();
    let offers = values.filter_map(|value| value.to_str().ok());
    offers
        .flat_map(|offers| offers.split(','))
        .any(is_acceptable)
}

/// An offer that asks for a smaller window than the server's, or has an unknown parameter, is not.
fn is_acceptable(offer: &str) -> bool {
    let mut parts = offer.split(';').map(str::trim);
    parts.next() == Some("permessage-deflate")
        && parts.all(|parameter| {
            let (name, value) = match parameter.split_once('=') {
                Some((name, value)) => (name.trim(), Some(value.trim().trim_matches('"'))),
                None => (parameter, None),
            };
            match name {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                "client_max_window_bits" => true,
                "server_max_window_bits" => value == Some(WINDOW_BITS),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_offers_of_browsers_are_accepted() {
        assert!(is_acceptable("permessage-deflate"));
        assert!(is_acceptable(" permessage-deflate; client_max_window_bits"));
        assert!(is_acceptable(
            "permessage-deflate; server_no_context_takeover; server_max_window_bits=\"15\""
        ));
        let mut headers = HeaderMap::new();
        let offers = "permessage-deflate; server_max_window_bits=9, permessage-deflate";
        headers.insert(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(offers));
        assert!(is_offered(&headers), "the second offer is acceptable");
    }

    #[test]
    fn an_offer_that_the_server_cannot_keep_is_not_accepted() {
        assert!(!is_acceptable("permessage-bzip2"));
        assert!(!is_acceptable(
            "permessage-deflate; server_max_window_bits=10"
        ));
        assert!(!is_acceptable("permessage-deflate; server_max_window_bits"));
        assert!(!is_acceptable("permessage-deflate; odd"));
        assert!(!is_offered(&HeaderMap::new()));
    }
}
