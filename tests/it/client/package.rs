//! What is in the package, what is served, and what the types say.

use std::fs;
use std::path::Path;
use std::process::Command;

use reqwest::Method;
use serde_json::Value;

use crate::support::program::Program;
use crate::support::test_relay::{Settings, TestRelay};
use crate::support::tool::{installed, is_installed};

const FOLDER: &str = "src/server/client";

/// The files of the package with this ending.
fn files(ending: &str) -> Vec<String> {
    let entries = fs::read_dir(FOLDER).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(ending)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_module_is_served() {
    let relay = TestRelay::without_backend(Settings::default()).await;
    for name in files(".js") {
        let path = format!("/client/{name}");
        let response = relay.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        let kind = &response.headers()["content-type"];
        assert_eq!(kind, "text/javascript; charset=utf-8", "{path}");
        let text = fs::read_to_string(Path::new(FOLDER).join(&name)).unwrap();
        assert_eq!(response.text().await.unwrap(), text, "{path}");
    }
    let old = relay.request(Method::GET, "/web/relay.js").send().await;
    let text = old.unwrap().text().await.unwrap();
    assert_eq!(text, "export * from \"../client/relay.js\";\n");
}

#[test]
fn every_entry_of_the_package_is_there_with_its_types() {
    let package = fs::read(Path::new(FOLDER).join("package.json")).unwrap();
    let package: Value = serde_json::from_slice(&package).unwrap();
    let entries = package["exports"].as_object().unwrap();
    let mut typed = Vec::new();
    for (name, entry) in entries {
        for kind in ["types", "default"] {
            let file = Path::new(FOLDER).join(entry[kind].as_str().unwrap());
            assert!(file.exists(), "{name}: {}", file.display());
        }
        typed.push(entry["types"].as_str().unwrap().trim_start_matches("./"));
    }
    let mut types = files(".d.ts");
    types.sort();
    typed.sort_unstable();
    assert_eq!(types, typed);
}

/// Runs a program that may be missing, and returns what it prints if it fails.
async fn fails(mut command: Command) -> Option<String> {
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = Program::output(command).await;
    let text = [output.stdout, output.stderr].concat();
    (!output.status.success()).then(|| String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_types_fit_what_users_write() {
    let Some(tsc) = installed("node_modules/typescript/bin/tsc") else {
        return;
    };
    if !is_installed("node", "apt-get install nodejs") {
        return;
    }
    let mut command = Command::new("node");
    command.arg(tsc).args(["-p", "tests/modules"]);
    assert_eq!(fails(command).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_types_name_what_the_modules_export() {
    if !is_installed("node", "apt-get install nodejs") {
        return;
    }
    let mut command = Command::new("node");
    command.args(["--no-warnings", "--test", "tests/modules/exports.mjs"]);
    assert_eq!(fails(command).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_modules_follow_no_job_with_the_name_of_another_socket() {
    if !is_installed("node", "apt-get install nodejs") {
        return;
    }
    let mut command = Command::new("node");
    command.args(["--no-warnings", "--test", "tests/modules/job_id.mjs"]);
    assert_eq!(fails(command).await, None);
}

/// The text of a file after one text and before the next of another.
fn between<'a>(text: &'a str, after: &str, before: &str) -> &'a str {
    let (_, rest) = text.split_once(after).unwrap();
    rest.split_once(before).unwrap().0
}

/// The fields of a type of a contract.
fn fields(document: &str, schema: &str) -> Vec<String> {
    let document = fs::read(Path::new("docs").join(document)).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let properties = &document["components"]["schemas"][schema]["properties"];
    properties.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn the_types_have_every_field_that_the_relay_sends() {
    let types = fs::read_to_string(Path::new(FOLDER).join("relay.d.ts")).unwrap();
    let python = fs::read_to_string("clients/python/comfy_relay.py").unwrap();
    let state = between(&python, "class _Always(", "class _Submitted(");
    let submitted = between(&python, "class _Submitted(", "class RelayError(");
    for (document, schema, name, class) in [
        ("asyncapi.json", "Progress", "Progress", state),
        ("openapi.json", "CreateAnswer", "Submitted", submitted),
    ] {
        let interface = between(&types, &format!("export interface {name} {{"), "\n}");
        let fields = fields(document, schema);
        assert!(fields.len() > 5, "{fields:?}");
        for field in fields {
            let is_typed = [format!("\n  {field}: "), format!("\n  {field}?: ")]
                .iter()
                .any(|line| interface.contains(line));
            assert!(is_typed, "{name} of relay.d.ts lacks {field}");
            let line = format!("\n    {field}: ");
            assert!(class.contains(&line), "{schema} of Python lacks {field}");
        }
    }
}
