//! [`BackendReport`]: how a server is, as the relay that follows it says, here and to the other relays on the database.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::relay::backend::condition::Condition;

/// How a server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::relay) struct BackendReport {
    pub(in crate::relay) condition: Condition,
    /// Why it is not healthy, if that is known.
    pub(in crate::relay) reason: Option<String>,
    /// Whether its socket is open.
    pub(in crate::relay) is_connected: bool,
    /// How many prompts ran, and how many waited, when its queue was last received.
    pub(in crate::relay) running: usize,
    pub(in crate::relay) pending: usize,
    /// How many prompts run or wait, those of all clients counted.
    pub(in crate::relay) remaining: Option<u64>,
    pub(in crate::relay) version: Option<String>,
    /// Since when its socket is not open.
    pub(in crate::relay) unreachable_since: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let report = BackendReport {
            condition: Condition::Stalled,
            reason: Some("no sign of life".into()),
            is_connected: true,
            running: 1,
            pending: 2,
            remaining: Some(3),
            version: None,
            unreachable_since: Some(Timestamp::from_second(1_700_000_000).unwrap()),
        };
        let text = serde_json::to_string(&report).unwrap();
        assert!(text.contains(r#""condition":"stalled""#), "{text}");
        assert_eq!(
            serde_json::from_str::<BackendReport>(&text).unwrap(),
            report
        );
    }
}
