//! The documents as they are kept in `docs`.

use std::fs;

use comfy_relay::config::ServerConfig;
use serde_json::{Value, json};

use crate::support::test_relay::TestRelay;

/// Compares what the relay serves with the file in `docs`, or writes it if `UPDATE_DOCUMENTS` is set.
async fn is_kept(name: &str) {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let (status, served) = relay.get(&format!("/{name}")).await;
    assert_eq!(status, 200);
    let served = serde_json::to_string_pretty(&served).unwrap() + "\n";
    let file = format!("docs/{name}");
    if std::env::var_os("UPDATE_DOCUMENTS").is_some() {
        return fs::write(&file, served).unwrap();
    }
    let kept = fs::read_to_string(&file).unwrap_or_default();
    let mut lines = served.lines().zip(kept.lines());
    let differing = lines.find(|(served, kept)| served != kept);
    assert!(
        served == kept,
        "{file} is not what is served: {differing:?}; UPDATE_DOCUMENTS=1 writes it"
    );
}

#[tokio::test]
async fn the_openapi_document_is_kept() {
    is_kept("openapi.json").await;
}

#[tokio::test]
async fn the_asyncapi_document_is_kept() {
    is_kept("asyncapi.json").await;
}

/// Every reference below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(
                fields
                    .get("$ref")
                    .and_then(Value::as_str)
                    .map(str::to_owned),
            );
            fields.values().for_each(|it| references(it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| references(it, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_of_a_document_leads_somewhere() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    for name in ["/openapi.json", "/asyncapi.json"] {
        let (_, document) = relay.get(name).await;
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 70, "{name}: {found:?}");
        for reference in found {
            let target = document.pointer(reference.trim_start_matches('#'));
            assert!(target.is_some(), "{name}: {reference}");
        }
    }
}

#[tokio::test]
async fn a_document_is_public_and_not_sent_again_to_a_client_that_has_it() {
    let relay = TestRelay::without_backend(ServerConfig::default()).await;
    let ask = |tag: &str| {
        let request = relay.request(reqwest::Method::GET, "/openapi.json");
        request.header("if-none-match", tag.to_owned()).send()
    };
    let first = ask("W/\"other\"").await.unwrap();
    assert_eq!(first.headers()["content-type"], "application/json");
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let document: Value = first.json().await.unwrap();
    assert_eq!(document["openapi"], json!("3.1.0"));
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(ask(&tag).await.unwrap().status(), 304);
}
