//! What all text frames have in common: a type, and data.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::progress_state::ProgressState;

/// A text frame.
pub(super) struct Envelope<'a> {
    pub(super) kind: Cow<'a, str>,
    pub(super) data: Data<'a>,
}

/// The data of a frame.
pub(super) enum Data<'a> {
    /// Not parsed: what it is depends on the type.
    Raw(&'a RawValue),
    /// There is none, or `null`.
    Missing,
    /// The type came first, as ComfyUI writes it: the data was parsed at once, and not skipped and read again.
    ProgressState(ProgressState),
}

/// A text that is borrowed if nothing in it is escaped.
#[derive(Deserialize)]
#[serde(transparent)]
struct Word<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EnvelopeVisitor;
        impl<'de> Visitor<'de> for EnvelopeVisitor {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object with a type")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Envelope<'de>, A::Error> {
                let mut kind: Option<Cow<'de, str>> = None;
                let mut data = None;
                while let Some(Word(key)) = map.next_key()? {
                    match key.as_ref() {
                        "type" if kind.is_some() => return Err(Error::duplicate_field("type")),
                        "type" => kind = Some(map.next_value::<Word<'de>>()?.0),
                        "data" if data.is_some() => return Err(Error::duplicate_field("data")),
                        "data" => data = Some(read_data(kind.as_deref(), &mut map)?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(Envelope {
                    kind: kind.ok_or_else(|| Error::missing_field("type"))?,
                    data: data.unwrap_or(Data::Missing),
                })
            }
        }
        deserializer.deserialize_map(EnvelopeVisitor)
    }
}

fn read_data<'de, A: MapAccess<'de>>(
    kind: Option<&str>,
    map: &mut A,
) -> Result<Data<'de>, A::Error> {
    if kind == Some("progress_state") {
        let state = map.next_value::<Option<ProgressState>>()?;
        return Ok(state.map_or(Data::Missing, Data::ProgressState));
    }
    let raw = map.next_value::<Option<&'de RawValue>>()?;
    Ok(raw.map_or(Data::Missing, Data::Raw))
}
