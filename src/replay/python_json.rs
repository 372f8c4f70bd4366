//! JSON as Python's `json.dumps` formats it, which ComfyUI uses for every text.

use std::io;

use serde::Serialize as _;
use serde_json::Value;
use serde_json::ser::{Formatter, Serializer};

/// `value` as `json.dumps` formats it: with a space after `,` and `:`, and non-ASCII characters escaped.
pub(super) fn dumps(value: &Value) -> String {
    let mut out = Vec::new();
    // Serialising a `Value` into memory cannot fail.
    let _ = value.serialize(&mut Serializer::with_formatter(&mut out, PythonFormatter));
    String::from_utf8(out).unwrap_or_default()
}

struct PythonFormatter;

impl Formatter for PythonFormatter {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        if first { Ok(()) } else { out.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }

    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        for c in fragment.chars() {
            if c.is_ascii() {
                out.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_formatted_as_python_formats_it() {
        let value = json!({"a": [1, 2.0, null], "ä": "job-4711 äö?&x \u{1f600}\n"});
        assert_eq!(
            dumps(&value),
            r#"{"a": [1, 2.0, null], "\u00e4": "job-4711 \u00e4\u00f6?&x \ud83d\ude00\n"}"#
        );
    }
}
