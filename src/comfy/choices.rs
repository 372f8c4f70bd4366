//! The choices of an input, and the texts that many inputs share.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

/// Up to how many choices ComfyUI lists in an error.
const MAX_LISTED: usize = 20;

/// The choices of an input.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Choices {
    /// In the order of the server; sorted where they are too many to be listed in an error.
    texts: Box<[Arc<str>]>,
    /// Those that are numbers, booleans or null.
    others: Box<[Value]>,
}

impl Choices {
    /// Whether a value is one of them, as Python compares: `1`, `1.0` and `True` are the same.
    pub(super) fn contain(&self, value: &Value) -> bool {
        match value {
            Value::String(text) if self.texts.len() > MAX_LISTED => {
                let order = |choice: &Arc<str>| (**choice).cmp(text.as_str());
                self.texts.binary_search_by(order).is_ok()
            }
            Value::String(text) => self.texts.iter().any(|choice| **choice == **text),
            _ => self.others.iter().any(|choice| is_equal(choice, value)),
        }
    }

    /// The texts among them.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// The list as ComfyUI writes it into an error.
    pub(super) fn listing(&self) -> String {
        let length = self.texts.len() + self.others.len();
        if length > MAX_LISTED {
            return format!("(list of length {length})");
        }
        let texts = self.texts().map(quote);
        let others = self.others.iter().map(python_text);
        let all: Vec<String> = texts.chain(others).collect();
        format!("[{}]", all.join(", "))
    }
}

/// A value as Python's `str` writes it.
pub(super) fn python_text(value: &Value) -> String {
    match value {
        Value::Null => "None".to_owned(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::String(text) => text.clone(),
        _ => value.to_string(),
    }
}

/// A text as Python's `repr` writes it, if it has no control characters.
pub(super) fn quote(text: &str) -> String {
    if text.contains('\'') && !text.contains('"') {
        return format!("\"{text}\"");
    }
    format!("'{}'", text.replace('\'', "\\'"))
}

fn is_equal(choice: &Value, value: &Value) -> bool {
    match (number(choice), number(value)) {
        (Some(choice), Some(value)) => choice == value,
        _ => choice == value,
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Bool(is_true) => Some(f64::from(u8::from(*is_true))),
        _ => value.as_f64(),
    }
}

/// Each text and each list of choices once: hundreds of inputs have the same list of model files.
#[derive(Debug, Default)]
pub(super) struct SharedTexts {
    texts: HashSet<Arc<str>>,
    choices: HashMap<Vec<Arc<str>>, Arc<Choices>>,
}

impl SharedTexts {
    pub(super) fn text(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.texts.insert(text.clone());
        text
    }

    /// The choices of a list; `None` if one of them is a list or an object, which ComfyUI does not have.
    pub(super) fn choices(&mut self, list: &[Value]) -> Option<Arc<Choices>> {
        if list.iter().any(|it| it.is_array() || it.is_object()) {
            return None;
        }
        let texts = list.iter().filter_map(Value::as_str);
        let mut texts: Vec<Arc<str>> = texts.map(|text| self.text(text)).collect();
        if texts.len() > MAX_LISTED {
            texts.sort_unstable();
        }
        let others: Vec<Value> = list.iter().filter(|it| !it.is_string()).cloned().collect();
        if !others.is_empty() {
            return Some(Arc::new(Choices {
                texts: texts.into(),
                others: others.into(),
            }));
        }
        let known = self.choices.entry(texts);
        let choices = known.or_insert_with_key(|texts| {
            Arc::new(Choices {
                texts: texts.as_slice().into(),
                others: Box::default(),
            })
        });
        Some(choices.clone())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_compared_as_python_does() {
        let mut shared = SharedTexts::default();
        let choices = shared.choices(&[json!("a"), json!(1), json!(false), json!(null)]);
        let choices = choices.unwrap();
        for value in [json!("a"), json!(1.0), json!(true), json!(0), json!(null)] {
            assert!(choices.contain(&value), "{value}");
        }
        for value in [json!("b"), json!("1"), json!(2), json!("")] {
            assert!(!choices.contain(&value), "{value}");
        }
        assert_eq!(choices.listing(), "['a', 1, False, None]");
        assert!(shared.choices(&[json!({"content": "a"})]).is_none());
    }

    #[test]
    fn many_choices_are_found_and_shared() {
        let list: Vec<Value> = (0..1_000).rev().map(|i| json!(format!("{i}.pt"))).collect();
        let mut shared = SharedTexts::default();
        let (one, other) = (shared.choices(&list), shared.choices(&list));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert!(Arc::ptr_eq(&one, &other));
        assert!(list.iter().all(|value| one.contain(value)));
        assert!(!one.contain(&json!("1000.pt")));
        assert_eq!(one.listing(), "(list of length 1000)");
    }
}
