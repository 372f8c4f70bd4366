use super::*;
use crate::store::StoreError;

/// Every error of the relay that passes: a request that is refused with it may succeed later.
fn temporary() -> Vec<ApiError> {
    let name = || "gpu1:8188".to_owned();
    let relay = [
        RelayError::BackendUnreachable(name()),
        RelayError::NoSocket {
            backend: name(),
            reason: "401".to_owned(),
        },
        RelayError::HeldByPeer(name()),
        RelayError::LeaseLapsed(name()),
        RelayError::RequestUnderWay,
        RelayError::Paused(name()),
        RelayError::Stopping,
        RelayError::Store(StoreError::Slow),
        RelayError::QueueFull {
            waiting: 9,
            limit: 9,
            retry_after: 7,
        },
    ];
    let not_ready = [
        NotReady::Stopping,
        NotReady::Database,
        NotReady::Stopped,
        NotReady::Unreachable,
    ];
    let mut errors: Vec<ApiError> = relay.into_iter().map(ApiError::from).collect();
    errors.extend(not_ready.map(ApiError::from));
    errors.push(ApiError::too_many_requests(Duration::from_millis(1_500)));
    errors.push(ApiError::too_many_connections("full"));
    errors
}

#[test]
fn an_error_that_passes_says_when_to_try_again() {
    for error in temporary() {
        let response = error.response();
        assert!(
            [429, 503].contains(&response.status().as_u16()),
            "{error:?}"
        );
        let expected = match error.code {
            "queue_full" => "7",
            "too_many_requests" => "2",
            _ => "5",
        };
        let retry_after = response.headers().get(header::RETRY_AFTER);
        assert_eq!(retry_after.unwrap(), expected, "{error:?}");
    }
    let lasting = ApiError::no_route("/nowhere").response();
    assert!(!lasting.headers().contains_key(header::RETRY_AFTER));
}
