//! The `metadata` of a job: its labels, without those that the relay gives.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::job::{Tags, excerpt};
use crate::relay::labelled_comfy_tags;
use crate::server::error::ApiError;

/// The labels that say how a job has come, and from which client.
const OF_RELAY: [&str; 2] = [Tags::VIA, "client_id"];

/// The tags of a job with this `metadata`.
pub(super) fn tags(metadata: Option<Value>) -> Result<Tags, ApiError> {
    let labels = match metadata {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(labels)) => labels,
        Some(_) => {
            let message = "metadata is an object of short texts";
            return Err(ApiError::bad_request("bad_labels", message));
        }
    };
    if let Some(own) = labels.keys().find(|key| OF_RELAY.contains(&key.as_str())) {
        let message = format!(
            "metadata cannot have {:?}: the relay gives this label itself",
            excerpt(own)
        );
        return Err(ApiError::bad_request("bad_labels", message));
    }
    Ok(labelled_comfy_tags(labels)?)
}

/// What of the labels of a job is its `metadata`.
pub(super) fn shown(mut labels: BTreeMap<String, String>) -> BTreeMap<String, String> {
    labels.retain(|key, _| !OF_RELAY.contains(&key.as_str()));
    labels
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn metadata_is_what_a_client_has_said_itself() {
        let tags = tags(Some(json!({"shot": "7"}))).unwrap();
        assert_eq!(tags.labels[Tags::VIA], "comfy");
        let expected = BTreeMap::from([("shot".to_owned(), "7".to_owned())]);
        assert_eq!(shown(tags.labels), expected);
        for wrong in [
            json!({"via": "discovery"}),
            json!({"client_id": "editor"}),
            json!({"shot": 7}),
            json!([]),
        ] {
            assert!(super::tags(Some(wrong.clone())).is_err(), "{wrong}");
        }
    }
}
