//! The output files in `executed` events and in the history.

use serde_json::Value;

use crate::job::Output;

/// The files in a node's output: `{images|gifs|audio|…: [{filename, subfolder, type}, …], …}`.
///
/// Text, numbers, nested lists and other values are left out. `view` is the URL of the server's `/view`.
pub(super) fn files(node: &str, output: &Value, view: &str) -> Vec<Output> {
    let kinds = output.as_object().into_iter().flatten();
    kinds
        .flat_map(|(kind, values)| {
            let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
            values
                .iter()
                .filter_map(|file| read(node, kind, file, view))
        })
        .collect()
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
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_among_other_values() {
        let output = serde_json::json!({
            "text": ["a", "b"],
            "gifs": [{"filename": "a b.mp4", "subfolder": "vid", "type": "output", "fullpath": "/secret"}],
            "value": [3, null, {"a": [1]}],
            "animated": [true],
            "empty": []
        });
        let files = files("40", &output, "http://c/view");
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].path(), "vid/a b.mp4");
        assert_eq!(
            files[0].url,
            "http://c/view?filename=a+b.mp4&subfolder=vid&type=output"
        );
    }

    #[test]
    fn an_output_without_files_has_none() {
        assert!(files("1", &Value::Null, "").is_empty());
        assert!(files("1", &serde_json::json!([1, 2]), "").is_empty());
    }
}
