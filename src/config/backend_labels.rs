//! [`BackendLabels`]: what operators say of ComfyUI servers, so that jobs can ask for some of them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many labels a server has at most.
const MAX_LABELS: usize = 16;

/// The longest key, in characters.
const MAX_KEY: usize = 64;

/// The longest text, in characters.
const MAX_TEXT: usize = 200;

/// Short texts by their keys, such as `gpu=a100`.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, JsonSchema, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BackendLabels(BTreeMap<String, String>);

/// A server with its labels, as the setting `BACKEND_LABELS` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledBackend {
    /// What the server is called: host, port and path.
    pub name: String,
    /// Its labels.
    pub labels: BackendLabels,
}

/// Why labels of servers are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendLabelError {
    /// Something is not `KEY=TEXT`.
    #[error("a label is KEY=TEXT, such as gpu=a100, unlike {0:?}")]
    Syntax(String),
    /// A key cannot be one.
    #[error("the key of a label has 1 to {MAX_KEY} characters of A-Z a-z 0-9 . _ -, unlike {0:?}")]
    Key(String),
    /// A text cannot be one.
    #[error(
        "the label {0:?} is not a text of 1 to {MAX_TEXT} characters without commas, semicolons and control characters"
    )]
    Text(String),
    /// A key is there twice.
    #[error("the label {0:?} is there twice")]
    Twice(String),
    /// There are none, or too many.
    #[error("these are {0} labels: 1 to {MAX_LABELS} are taken")]
    Count(usize),
}

impl BackendLabels {
    /// Checks labels.
    ///
    /// # Errors
    ///
    /// If there are too many, or one is not a short text.
    pub fn check(
        labels: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, BackendLabelError> {
        let mut checked = BTreeMap::new();
        for (key, text) in labels {
            if !is_key(&key) {
                return Err(BackendLabelError::Key(excerpt(&key)));
            }
            if !is_text(&text) {
                return Err(BackendLabelError::Text(key));
            }
            if checked.insert(key.clone(), text).is_some() {
                return Err(BackendLabelError::Twice(key));
            }
        }
        match checked.len() {
            0..=MAX_LABELS => Ok(Self(checked)),
            count => Err(BackendLabelError::Count(count)),
        }
    }

    /// Reads `KEY=TEXT`, or several with commas between them.
    ///
    /// # Errors
    ///
    /// If the text is something else, or a label is not a short text.
    pub fn parse(text: &str) -> Result<Self, BackendLabelError> {
        let pairs = text.split(',').map(|pair| {
            let (key, text) = pair
                .split_once('=')
                .ok_or_else(|| BackendLabelError::Syntax(excerpt(pair.trim())))?;
            Ok((key.trim().to_owned(), text.trim().to_owned()))
        });
        Self::check(pairs.collect::<Result<Vec<_>, _>>()?)
    }

    /// Whether a text is `KEY=TEXT` and no name of a server: these hold no `=` but behind a slash or a colon.
    pub fn is_label(text: &str) -> bool {
        text.split_once('=')
            .is_some_and(|(key, _)| is_key(key.trim()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether all of these are among them.
    pub fn have_all(&self, asked: &Self) -> bool {
        let mut asked = asked.0.iter();
        asked.all(|(key, text)| self.0.get(key) == Some(text))
    }
}

/// `gpu=a100, room=2`.
impl fmt::Display for BackendLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let labels = self.0.iter().map(|(key, text)| format!("{key}={text}"));
        f.write_str(&labels.collect::<Vec<_>>().join(", "))
    }
}

/// Reads an entry of the setting: `NAME:KEY=TEXT`, or several labels with commas between them. The name has colons of its own:
/// it ends at the last one before the first `=`.
pub(super) fn parse_labelled_backend(text: &str) -> Result<LabelledBackend, String> {
    let expected = "expected NAME:KEY=TEXT, such as gpu1:8188:gpu=a100,room=2";
    let equals = text.find('=').ok_or(expected)?;
    let colon = text[..equals].rfind(':').ok_or(expected)?;
    let name = text[..colon].trim();
    if name.is_empty() {
        return Err(expected.to_owned());
    }
    let labels = BackendLabels::parse(&text[colon + 1..]).map_err(|why| why.to_string())?;
    Ok(LabelledBackend {
        name: name.to_owned(),
        labels,
    })
}

fn is_key(key: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=MAX_KEY).contains(&key.len()) && key.chars().all(is_allowed)
}

fn is_text(text: &str) -> bool {
    let is_barred = |c: char| c.is_control() || matches!(c, ',' | ';');
    (1..=MAX_TEXT).contains(&text.chars().count()) && !text.chars().any(is_barred)
}

/// So much of a text as a message repeats.
fn excerpt(text: &str) -> String {
    text.chars().take(MAX_KEY).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> BackendLabels {
        BackendLabels::parse(text).unwrap()
    }

    #[test]
    fn labels_match_where_all_of_them_are_there() {
        let own = labels("gpu=a100, room=2");
        assert_eq!(own.to_string(), "gpu=a100, room=2");
        for (asked, matches) in [
            ("gpu=a100", true),
            ("room=2,gpu=a100", true),
            ("gpu=A100", false),
            ("gpu=a100,rack=1", false),
        ] {
            assert_eq!(own.have_all(&labels(asked)), matches, "{asked}");
        }
    }

    #[test]
    fn what_is_no_label_is_refused() {
        use BackendLabelError::*;
        for (text, why) in [
            ("gpu", Syntax("gpu".into())),
            ("gpu=a100,", Syntax("".into())),
            ("g u=a100", Key("g u".into())),
            ("=a100", Key("".into())),
            ("gpu=", Text("gpu".into())),
            ("gpu=a;b", Text("gpu".into())),
            ("gpu=1,gpu=2", Twice("gpu".into())),
        ] {
            assert_eq!(BackendLabels::parse(text), Err(why), "{text}");
        }
        let many = (0..17).map(|n| (n.to_string(), "x".to_owned()));
        assert_eq!(BackendLabels::check(many), Err(Count(17)));
    }

    #[test]
    fn names_of_servers_are_no_labels() {
        for text in ["gpu=a100", "gpu=a100,room=2", " gpu = a"] {
            assert!(BackendLabels::is_label(text), "{text}");
        }
        for text in ["gpu1:8188", "gpu1/a=b", "gpu1:8188/a=b", "gpu9", ""] {
            assert!(!BackendLabels::is_label(text), "{text}");
        }
    }

    #[test]
    fn an_entry_of_the_setting_names_a_server() {
        for (text, name, expected) in [
            ("gpu1:8188:gpu=a100,room=2", "gpu1:8188", "gpu=a100, room=2"),
            (" gpu1 : gpu=a100", "gpu1", "gpu=a100"),
            ("[::1]:8188/comfy:gpu=a:b", "[::1]:8188/comfy", "gpu=a:b"),
        ] {
            let read = parse_labelled_backend(text).unwrap();
            assert_eq!((read.name.as_str(), read.labels), (name, labels(expected)));
        }
        for text in ["", "gpu1:8188", "gpu=a100", ":gpu=a100", "gpu1:=a"] {
            assert!(parse_labelled_backend(text).is_err(), "{text}");
        }
    }
}
