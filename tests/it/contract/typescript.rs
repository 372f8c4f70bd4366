//! A TypeScript client is generated of the documents, and compiles.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::program::Program;
use crate::support::tool::{installed, node};

/// Runs a script of node to its end. Returns what it has printed, if it has succeeded.
async fn run(script: &Path, arguments: &[&str]) -> Result<String, String> {
    let mut command: Command = node(script.to_str().unwrap()).unwrap();
    command.args(arguments);
    let output = Program::output(command).await;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    let text = text.into_owned();
    output.status.success().then_some(text.clone()).ok_or(text)
}

/// A field with a default may be left out of what is sent.
const OPTIONAL_DEFAULTS: &str = "--default-non-nullable=false";

fn read(file: &str) -> Value {
    serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap()
}

#[tokio::test]
async fn a_typescript_client_is_generated_and_compiles() {
    let generator = installed("openapi/node_modules/openapi-typescript/bin/cli.js");
    let compiler = installed("node_modules/typescript/bin/tsc");
    let (Some(generator), Some(compiler)) = (generator, compiler) else {
        return;
    };
    if node("").is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    // The generator reads schemas in a document of OpenAPI.
    let messages = json!({
        "openapi": "3.1.0",
        "info": {"title": "messages", "version": "1"},
        "paths": {},
        "components": {"schemas": read("docs/asyncapi.json")["components"]["schemas"]},
    });
    fs::write(file("messages.json"), messages.to_string()).unwrap();
    let requests = fs::canonicalize("docs/openapi.json").unwrap();
    let requests = requests.to_str().unwrap().to_owned();
    for (document, types) in [
        (requests, "openapi.d.ts"),
        (file("messages.json"), "asyncapi.d.ts"),
    ] {
        let types = file(types);
        let arguments = [&*document, OPTIONAL_DEFAULTS, "-o", &types];
        run(&generator, &arguments).await.unwrap();
    }
    fs::copy("tests/openapi/use.ts", file("use.ts")).unwrap();
    let strict = [
        "--strict",
        "--noEmit",
        "--target",
        "es2022",
        "--lib",
        "es2022,dom",
        "--module",
        "esnext",
        "--moduleResolution",
        "bundler",
        "--skipLibCheck",
        "false",
    ];
    let script = file("use.ts");
    let compile = [&[&*script], &strict[..]].concat();
    run(&compiler, &compile).await.unwrap();
    // The compiler finds a field that the types do not have.
    let wrong = fs::read_to_string("tests/openapi/use.ts")
        .unwrap()
        .replace("page.jobs", "page.jbos");
    fs::write(file("use.ts"), wrong).unwrap();
    let found = run(&compiler, &compile).await.unwrap_err();
    assert!(found.contains("jbos"), "{found}");
}
