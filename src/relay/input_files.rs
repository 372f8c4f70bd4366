//! Pictures that workflows load. They are kept in the database, and sent to a server before a job that loads them: which
//! server that is, is known only then.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value};

use crate::comfy::Picture;
use crate::relay::backend::Backend;
use crate::relay::requests::post_prompt::NotPlaced;
use crate::relay::tracker::Tracker;
use crate::relay::{Relay, RelayError};
use crate::store::INPUT_USE_PRECISION;

/// How the names of these pictures begin.
const PREFIX: &str = "relay-";

/// How many hexadecimal digits of the digest of a picture are in its name: no two pictures have the same.
const DIGITS: usize = 32;

/// How many bytes all pictures have at most: they are in the database.
const MAX_ALL: u64 = 2 << 30;

/// How long a picture is kept since it was used last: for longer than most jobs wait.
const KEPT: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How old the use that is noted is when a picture is deleted.
pub(super) const INPUT_AGE: Duration = KEPT.saturating_add(INPUT_USE_PRECISION);

/// How many pictures one graph loads at most: more than any workflow does, and fewer than a statement takes.
const MAX_IN_GRAPH: usize = 100;

/// The pictures that were looked up for a request, each with whether it is kept.
#[derive(Debug, Default)]
pub(super) struct InputLookups(HashMap<String, bool>);

/// A picture that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedInput {
    /// What a workflow calls it.
    pub name: String,
    /// In pixels.
    pub width: usize,
    /// In pixels.
    pub height: usize,
}

impl Relay {
    /// Keeps a picture, so that workflows can load it. The same picture has the same name each time.
    ///
    /// # Errors
    ///
    /// If ComfyUI does not load such a file, or there is no room for it.
    pub async fn add_input(&self, content: &[u8]) -> Result<AcceptedInput, RelayError> {
        let picture = Picture::of(content).ok_or(RelayError::NotAPicture)?;
        let name = name_of(content, picture.extension);
        let store = self.recorder().store();
        if !store.add_input(&name, content, MAX_ALL).await? {
            return Err(RelayError::InputsFull);
        }
        Ok(AcceptedInput {
            name,
            width: picture.width,
            height: picture.height,
        })
    }

    /// Fails if a graph loads a picture that is not kept any more, or too many. Each picture is looked up once.
    pub(super) async fn check_inputs(
        &self,
        graph: &Map<String, Value>,
        InputLookups(known): &mut InputLookups,
    ) -> Result<(), RelayError> {
        let wanted = names_in(graph);
        if wanted.len() > MAX_IN_GRAPH {
            return Err(RelayError::TooManyInputs {
                count: wanted.len(),
                limit: MAX_IN_GRAPH,
            });
        }
        let new = wanted.iter().filter(|name| !known.contains_key(**name));
        let new: Vec<String> = new.map(|&name| name.to_owned()).collect();
        if !new.is_empty() {
            let found = self.recorder().store().use_inputs(&new).await?;
            known.extend(new.into_iter().map(|name| {
                let is_kept = found.contains(&name);
                (name, is_kept)
            }));
        }
        match wanted.into_iter().find(|name| !known[*name]) {
            Some(missing) => Err(RelayError::InputNotFound(missing.to_owned())),
            None => Ok(()),
        }
    }
}

impl Tracker {
    /// Sends the pictures that a graph loads to the backend that runs it.
    pub(super) async fn send_inputs(
        &self,
        backend: &Backend,
        graph: &Map<String, Value>,
    ) -> Result<(), NotPlaced> {
        for name in names_in(graph) {
            let kept = self.recorder.store().input(name).await;
            let kept = kept.map_err(|error| NotPlaced::NotSent(error.into()))?;
            let missing = || NotPlaced::Sent(RelayError::InputNotFound(name.to_owned()));
            let content = kept.ok_or_else(missing)?;
            let sent = backend.comfy.rest().upload_input(name, &content).await;
            sent.map_err(|source| {
                let is_away = source.is_unconnected();
                let error = RelayError::request_failed(backend.name(), source);
                if is_away {
                    NotPlaced::NotSent(error)
                } else {
                    NotPlaced::InputNotTaken(error)
                }
            })?;
        }
        Ok(())
    }
}

fn name_of(content: &[u8], extension: &str) -> String {
    let digest = digest(&SHA256, content);
    let digits = digest.as_ref().iter().take(DIGITS / 2);
    let digits: String = digits.map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{digits}.{extension}")
}

/// The pictures that the nodes of a graph load.
fn names_in(graph: &Map<String, Value>) -> BTreeSet<&str> {
    let inputs = graph.values().filter_map(|node| node["inputs"].as_object());
    let texts = inputs.flat_map(Map::values).filter_map(Value::as_str);
    texts.filter(|text| is_name(text)).collect()
}

fn is_name(text: &str) -> bool {
    let rest = text
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('.'));
    let is_digit = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    rest.is_some_and(|(digits, extension)| {
        digits.len() == DIGITS
            && digits.chars().all(is_digit)
            && (3..=4).contains(&extension.len())
            && extension.chars().all(|c| c.is_ascii_lowercase())
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pictures_are_found_in_a_graph_by_their_names() {
        let name = name_of(b"a", "png");
        assert_eq!(name, "relay-ca978112ca1bbdcafac231b39a23dc4d.png");
        let graph = json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": name, "other": "a.png"}},
            "2": {"class_type": "LoadImage", "inputs": {"image": name}},
            "3": {"class_type": "Text", "inputs": {"text": format!("see {name}"), "link": ["1", 0]}},
            "4": {"class_type": "None"},
        });
        let names = names_in(graph.as_object().unwrap()).into_iter();
        assert_eq!(names.collect::<Vec<_>>(), [name.as_str()]);
        for other in [
            "relay-",
            "relay-ca.png",
            "relay-ca978112ca1bbdcafac231b39a23dc4d/../../x",
        ] {
            assert!(!is_name(other), "{other}");
        }
    }
}
