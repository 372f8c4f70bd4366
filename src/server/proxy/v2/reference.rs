//! References to assets in graphs: where a graph has one, ComfyUI gets the name of a file.

use std::collections::HashMap;

use http_body_util::BodyDataStream;
use hyper::{HeaderMap, StatusCode};
use serde_json::{Map, Value};

use super::input_file::BROKEN;
use super::output::OutputAsset;
use super::upload::{NewAsset, take_in};
use crate::job::excerpt;
use crate::relay::RelayError;
use crate::server::api::outputs::{file_name, media_type};
use crate::server::error::ApiError;
use crate::server::proxy::paced_body::PacedBody;
use crate::server::state::ServerState;

/// What the field `__type` of a reference says.
const TYPE: &str = "core/ASSET";

/// How many assets one graph names at most: each is looked up.
const MAX_ASSETS: usize = 500;

/// How the ids of copies of outputs begin. Neither an upload nor an output has such an id.
const COPY: &str = "copy/";

/// How deep inputs are looked into. ComfyUI's own have three levels at most.
const MAX_DEPTH: usize = 16;

/// Puts the names of files in the place of references.
pub(super) async fn resolve(
    state: &ServerState,
    graph: &mut Map<String, Value>,
) -> Result<(), ApiError> {
    let mut filenames: HashMap<String, String> = HashMap::new();
    for (node, value) in graph.iter_mut() {
        let mut references = Vec::new();
        find(value, MAX_DEPTH, &mut references);
        for reference in references {
            let id = reference.pointer("/info/id").and_then(Value::as_str);
            let id = id.ok_or_else(|| missing(node, "a reference without the id of its asset"))?;
            if !filenames.contains_key(id) {
                if filenames.len() >= MAX_ASSETS {
                    let message = format!("a workflow loads at most {MAX_ASSETS} assets");
                    return Err(ApiError::bad_request("bad_workflow", message));
                }
                let filename = filename(state, node, id).await?;
                filenames.insert(id.to_owned(), filename);
            }
            *reference = filenames[id].clone().into();
        }
    }
    Ok(())
}

/// Collects the references in a value.
fn find<'a>(value: &'a mut Value, depth: usize, found: &mut Vec<&'a mut Value>) {
    if value.get("__type").is_some_and(|kind| kind == TYPE) {
        found.push(value);
        return;
    }
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| find(item, depth, found)),
        Value::Object(fields) => {
            let fields = fields.iter_mut();
            fields.for_each(|(_, field)| find(field, depth, found));
        }
        _ => {}
    }
}

/// The name of the file of an asset. What a job has made is copied to the other servers first.
async fn filename(state: &ServerState, node: &str, id: &str) -> Result<String, ApiError> {
    let filename = match OutputAsset::parse(id) {
        Some(output) => copied(state, output).await?,
        None => state.relay.asset(id).await?.map(|asset| asset.filename),
    };
    filename.ok_or_else(|| missing(node, &format!("there is no asset {:?}", excerpt(id))))
}

/// The name of the copy of an output, which is made once, and again where a server has lost it; `None` if there is no such output.
async fn copied(
    state: &ServerState,
    OutputAsset { job, number }: OutputAsset,
) -> Result<Option<String>, ApiError> {
    let relay = &state.relay;
    let key = async {
        relay.lookup(&job).await?;
        relay.output_key(&job, number)
    };
    let Some(key) = found(key.await)? else {
        return Ok(None);
    };
    let id = format!("{COPY}{key}");
    let copy = relay.asset(&id).await?;
    if let Some(copy) = &copy
        && !relay.lacks_file(copy).await
    {
        return Ok(Some(copy.filename.clone()));
    }
    let read = relay.output(&job, number, &HeaderMap::new()).await;
    let Some((output, file)) = found(read)? else {
        // Some servers may still have the copy.
        return Ok(copy.map(|copy| copy.filename));
    };
    let new = NewAsset {
        id,
        replaces: copy.is_some(),
        content_type: media_type(&output)
            .unwrap_or("application/octet-stream")
            .to_owned(),
        file_path: file_name(&output).into_owned(),
        expected_hash: None,
    };
    let body = PacedBody::new(file.into_body(), "answer", state.config.body_timeout);
    match take_in(state, new, BodyDataStream::new(body)).await {
        Ok((copy, _)) => Ok(Some(copy.filename)),
        // It is the server that has failed, not the client.
        Err(error) if error.code() == BROKEN => {
            Err(RelayError::OutputUnreadable(job, output.path()).into())
        }
        Err(error) => Err(error),
    }
}

/// `None` if what was to be read is not there.
fn found<T>(read: Result<T, RelayError>) -> Result<Option<T>, ApiError> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(
            RelayError::JobNotFound(_)
            | RelayError::OutputNotFound(..)
            | RelayError::OutputUnavailable(..),
        ) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn missing(node: &str, why: &str) -> ApiError {
    ApiError::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "missing_asset",
        format!("node {:?}: {why}; upload the file first", excerpt(node)),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_are_found_at_any_depth_and_nothing_else_is_one() {
        let reference = |id: &str| json!({"__type": "core/ASSET", "info": {"id": id}});
        let mut node = json!({"class_type": "LoadImage", "inputs": {"image": reference("a"), "more": [{"x": reference("b")}],
            "other": {"__type": "other"}, "link": ["3", 0]}});
        let mut found = Vec::new();
        find(&mut node, MAX_DEPTH, &mut found);
        let ids: Vec<&str> = found
            .iter()
            .filter_map(|reference| reference.pointer("/info/id")?.as_str())
            .collect();
        assert_eq!(ids, ["a", "b"]);
    }
}
