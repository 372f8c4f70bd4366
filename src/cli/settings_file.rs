//! [`SettingsFile`]: settings in a TOML file, under the names of their environment variables in lower case.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

/// How alike two names are, from 0 to 1, of which one can be a mistake for the other.
const ALIKE: f64 = 0.8;

/// The values of a file, with their places. They may be secrets: neither they nor the lines are printed.
pub(super) struct SettingsFile {
    path: PathBuf,
    entries: BTreeMap<String, FileEntry>,
}

struct FileEntry {
    /// From 1.
    line: usize,
    value: FileValue,
}

enum FileValue {
    One(String),
    List(Vec<String>),
    /// What it is instead of a value.
    Other(&'static str),
}

/// What a file may hold.
#[derive(Debug, Default)]
pub(super) struct KnownSettings {
    /// The names of all settings, each with what stands between the entries of a list.
    pub(super) delimiters: BTreeMap<String, Option<char>>,
    /// Names that only the environment has, each with that of its setting.
    pub(super) aliases: BTreeMap<String, String>,
}

impl SettingsFile {
    /// Reads the file. Fails with everything that is wrong with its syntax.
    pub(super) fn read(path: &Path) -> Result<Self, Vec<String>> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| {
            vec![format!(
                "cannot read the settings file {shown} (--config, CONFIG): {error}"
            )]
        })?;
        let line = |at: usize| text[..at.min(text.len())].matches('\n').count() + 1;
        let (table, errors) = DeTable::parse_recoverable(&text);
        if !errors.is_empty() {
            let place = |error: &toml::de::Error| {
                let line = error.span().map_or(1, |span| line(span.start));
                format!("{shown}:{line}: {}", error.message())
            };
            return Err(errors.iter().map(place).collect());
        }
        let entries = table.get_ref().iter().map(|(name, value)| {
            let entry = FileEntry {
                line: line(name.span().start),
                value: FileValue::of(value.get_ref()),
            };
            (name.get_ref().to_string(), entry)
        });
        Ok(Self {
            path: path.to_owned(),
            entries: entries.collect(),
        })
    }

    /// What the file sets a variable to, as text; `None` if it does not. A list for a setting that takes one value is a text that
    /// its parser refuses.
    pub(super) fn text(&self, variable: &str, delimiter: Option<char>) -> Option<String> {
        let text = match &self.entry(variable)?.value {
            FileValue::One(text) => text.clone(),
            FileValue::List(texts) => texts.join(&delimiter.unwrap_or(',').to_string()),
            FileValue::Other(_) => return None,
        };
        // No variable can hold one, and it is named as a problem.
        Some(text).filter(|text| !text.contains('\0'))
    }

    /// Where the file sets a variable: its path and line.
    pub(super) fn place(&self, variable: &str) -> Option<String> {
        let line = self.entry(variable)?.line;
        Some(format!("{}:{line}", self.path.display()))
    }

    fn entry(&self, variable: &str) -> Option<&FileEntry> {
        self.entries.get(&variable.to_lowercase())
    }

    /// Everything that is wrong with the file whatever the values mean: names that no setting has, and values that are none. In
    /// the order of its lines.
    pub(super) fn problems(&self, known: &KnownSettings) -> Vec<String> {
        let mut found: Vec<(usize, String)> = Vec::new();
        for (name, entry) in &self.entries {
            let problem = match known.delimiters.get(name) {
                Some(delimiter) => entry.value.problem(name, *delimiter),
                None => Some(unknown(name, known)),
            };
            found.extend(problem.map(|problem| (entry.line, problem)));
        }
        found.sort();
        let place =
            |(line, problem): (usize, String)| format!("{}:{line}: {problem}", self.path.display());
        found.into_iter().map(place).collect()
    }
}

impl FileValue {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::Array(values) => {
                let texts = values.iter().map(|value| scalar(value.get_ref()));
                let texts: Option<Vec<String>> = texts.collect();
                texts.map_or(Self::Other("a list of lists or tables"), Self::List)
            }
            DeValue::Table(_) => Self::Other("a table"),
            DeValue::Datetime(_) => Self::Other("a date"),
            value => scalar(value).map_or(Self::Other("a number beyond 64 bits"), Self::One),
        }
    }

    /// Why it is not the value of a setting; `None` if it can be one.
    fn problem(&self, name: &str, delimiter: Option<char>) -> Option<String> {
        const EXPECTED: &str = "a text, a number, or true or false";
        let has_nul = |text: &String| text.contains('\0');
        match (self, delimiter) {
            (Self::One(text), _) if has_nul(text) => Some(format!("{name} holds a NUL character")),
            (Self::One(_), _) => None,
            (Self::List(texts), Some(delimiter)) => {
                if texts.is_empty() {
                    Some(format!("{name} is an empty list; leave it out"))
                } else if texts.iter().any(has_nul) {
                    Some(format!("{name} holds a NUL character"))
                } else if texts.iter().any(|text| text.contains(delimiter)) {
                    Some(format!(
                        "{name}: an entry of its list holds a {delimiter:?}, which separates entries; write two"
                    ))
                } else {
                    None
                }
            }
            (Self::List(_), None) => Some(format!("{name} is a list; expected {EXPECTED}")),
            (Self::Other(kind), Some(_)) => Some(format!(
                "{name} is {kind}; expected {EXPECTED}, or a list of them"
            )),
            (Self::Other(kind), None) => Some(format!("{name} is {kind}; expected {EXPECTED}")),
        }
    }
}

/// A single value as the environment would hold it.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let number = i64::from_str_radix(number.as_str(), number.radix());
            number.ok().map(|number| number.to_string())
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(is_true) => Some(is_true.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}

/// What to do about a name that no setting has.
fn unknown(name: &str, known: &KnownSettings) -> String {
    let plain = name.to_lowercase().replace('-', "_");
    if let Some(setting) = known.aliases.get(&plain) {
        return format!("{name} is not a setting; {setting} is");
    }
    let alike = |known: &&String| strsim::jaro_winkler(&plain, known);
    let nearest = known
        .delimiters
        .keys()
        .max_by(|a, b| alike(a).total_cmp(&alike(b)));
    match nearest.filter(|nearest| alike(nearest) >= ALIKE) {
        Some(nearest) => format!("{name} is not a setting; {nearest} is"),
        None => format!("{name} is not a setting; config show lists them"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        let known = [
            ("listen", None),
            ("dispatch_depth", None),
            ("comfyui_url", Some(',')),
        ];
        let known = known.map(|(name, delimiter)| (name.to_owned(), delimiter));
        let known = KnownSettings {
            delimiters: known.into(),
            aliases: [("port".to_owned(), "listen".to_owned())].into(),
        };
        let found = match SettingsFile::read(&path) {
            Ok(file) => file.problems(&known),
            Err(errors) => errors,
        };
        let prefix = format!("{}:", path.display());
        let strip = |problem: &String| problem.strip_prefix(&prefix).unwrap().to_owned();
        found.iter().map(strip).collect()
    }

    #[test]
    fn a_name_that_no_setting_has_is_answered_with_the_nearest() {
        for (name, nearest) in [
            ("dispatch_dept", "dispatch_depth is"),
            ("DISPATCH_DEPTH", "dispatch_depth is"),
            ("dispatch-depth", "dispatch_depth is"),
            ("port", "listen is"),
            ("colour", "config show lists them"),
        ] {
            let found = problems(&format!("listen = 1\n{name} = 2\n"));
            assert_eq!(found.len(), 1, "{found:?}");
            assert!(found[0].starts_with(&format!("2: {name} is ")), "{found:?}");
            assert!(found[0].ends_with(nearest), "{found:?}");
        }
    }

    #[test]
    fn every_value_that_is_none_has_its_line() {
        let text = "dispatch_depth = [2]\ncomfyui_url = [\"a,b\"]\n[listen]\nport = 1\n";
        let found = problems(text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("1: dispatch_depth is a list; expected a text"));
        assert!(
            found[1].starts_with("2: comfyui_url: an entry"),
            "{found:?}"
        );
        assert!(found[2].starts_with("3: listen is a table"), "{found:?}");
        for (value, problem) in [
            ("[]", "an empty list"),
            ("[[1]]", "a list of lists or tables"),
            ("2026-01-01", "a date"),
            ("\"\\u0000\"", "NUL"),
            ("99999999999999999999", "beyond 64 bits"),
        ] {
            let found = problems(&format!("comfyui_url = {value}"));
            assert!(found[0].contains(problem), "{value}: {found:?}");
        }
        assert!(problems("comfyui_url = [\"a\", \"b\"]\nlisten = 0x10").is_empty());
    }

    #[test]
    fn errors_of_syntax_have_their_lines_and_repeat_nothing() {
        let found = problems("listen = 1\nauth = \"hunter2\nlisten = hunter2\n");
        assert!(found.len() > 1 && found[0].starts_with("2: "), "{found:?}");
        assert!(found.iter().all(|it| !it.contains("hunter2")), "{found:?}");
    }
}
