//! The outputs in `executed` events and in the history: files, and texts that nodes show.

use serde_json::Value;

use crate::job::Output;

/// The key of the texts that a node shows in ComfyUI's page.
const TEXT: &str = "text";

/// The files in a node's output, `{images|gifs|audio|…: [{filename, subfolder, type}, …], …}`, and the texts that it
/// shows, `{text: ["…", …]}`, as one output.
///
/// Numbers, nested lists and other values are left out. `view` is the URL of the server's `/view`.
pub(super) fn outputs(node: &str, output: &Value, view: &str) -> Vec<Output> {
    let kinds = output.as_object().into_iter().flatten();
    kinds
        .flat_map(|(kind, values)| {
            let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
            let files = values
                .iter()
                .filter_map(|file| read(node, kind, file, view));
            files.chain(shown_text(node, kind, values))
        })
        .collect()
}

fn shown_text(node: &str, kind: &str, values: &[Value]) -> Option<Output> {
    let values = if kind == TEXT { values } else { &[] };
    let texts: Vec<&str> = values.iter().filter_map(Value::as_str).collect();
    let is_shown = texts.iter().any(|text| !text.is_empty());
    is_shown.then(|| Output::shown_text(node, kind, &texts))
}

fn read(node: &str, kind: &str, file: &Value, view: &str) -> Option<Output> {
    let text = |key| file.get(key).and_then(Value::as_str);
    let filename = text("filename").filter(|name| !name.is_empty())?;
    let subfolder = text("subfolder").unwrap_or_default();
    let folder = text("type").unwrap_or("output");
    let query = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("filename", filename)
        .append_pair("subfolder", subfolder)
        .append_pair("type", folder)
        .finish();
    Some(Output {
        node: node.to_owned(),
        kind: kind.to_owned(),
        filename: filename.to_owned(),
        subfolder: subfolder.to_owned(),
        r#type: folder.to_owned(),
        url: format!("{view}?{query}"),
        text: None,
        truncated: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_texts_are_found_among_other_values() {
        let output = serde_json::json!({
            "text": ["a", 7, "b"],
            "string": ["a"],
            "gifs": [{"filename": "a b.mp4", "subfolder": "vid", "type": "output", "fullpath": "/secret"}],
            "value": [3, null, {"a": [1]}],
            "animated": [true],
            "empty": []
        });
        let found = outputs("40", &output, "http://c/view");
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].text.as_deref(), Some("a\n\nb"));
        assert_eq!(found[1].path(), "vid/a b.mp4");
        assert_eq!(
            found[1].url,
            "http://c/view?filename=a+b.mp4&subfolder=vid&type=output"
        );
    }

    #[test]
    fn an_output_without_files_and_texts_has_none() {
        for output in [
            serde_json::json!(null),
            serde_json::json!([1, 2]),
            serde_json::json!({"text": [""]}),
            serde_json::json!({"text": "a"}),
        ] {
            assert!(outputs("1", &output, "").is_empty(), "{output}");
        }
    }
}
