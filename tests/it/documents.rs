//! What the documents name exists: files, headings, settings, metrics, tests.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::program::Program;
use crate::support::tool::is_installed;

/// The most lines that the README may have: longer, nobody reads it to its end.
const MAX_README: usize = 150;

/// Every Markdown document, by its path.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("README.md"), PathBuf::from("CHANGELOG.md")];
    for folder in ["docs", ".github"] {
        found.extend(files(Path::new(folder), "md"));
    }
    found
}

/// All files below a folder with this extension.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|it| it == extension) {
            found.push(path);
        }
    }
    found
}

/// A document's lines outside of code blocks.
fn prose(document: &Path) -> Vec<String> {
    let text = fs::read_to_string(document).unwrap();
    let mut is_code = false;
    let lines = text.lines().filter(|line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    });
    lines.map(str::to_owned).collect()
}

/// Text and target of every link of a line: `[text](target)`.
fn links(line: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (middle, _) in line.match_indices("](") {
        let text = line[..middle].rsplit('[').next().unwrap_or_default();
        let target = line[middle + 2..].split(')').next().unwrap_or_default();
        found.push((text, target));
    }
    // The definition of a reference, `[text]: target`.
    if let Some((text, target)) = line
        .strip_prefix('[')
        .and_then(|line| line.split_once("]: "))
    {
        found.push((text, target));
    }
    found
}

/// The code spans of a line: what stands between backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// The anchor that a heading gets on a page, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let heading = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = heading.chars().filter_map(|c| match c {
        ' ' => Some('-'),
        c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
        _ => None,
    });
    kept.collect()
}

fn anchors(document: &Path) -> HashSet<String> {
    let lines = prose(document);
    let headings = lines.iter().filter(|line| line.starts_with('#'));
    headings.map(|heading| anchor(heading)).collect()
}

#[test]
fn the_readme_is_short() {
    let lines = fs::read_to_string("README.md").unwrap().lines().count();
    assert!(lines <= MAX_README, "README.md has {lines} lines");
}

#[test]
fn every_link_of_a_document_leads_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let folder = document.parent().unwrap();
        for line in prose(&document) {
            for (_, target) in links(&line) {
                if target.contains("://") {
                    continue;
                }
                let (file, heading) = target.split_once('#').unwrap_or((target, ""));
                let file = match file {
                    "" => document.clone(),
                    file => folder.join(file),
                };
                let is_there =
                    file.exists() && (heading.is_empty() || anchors(&file).contains(heading));
                if !is_there {
                    broken.push(format!("{}: {target}", document.display()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_setting_is_documented() {
    let help = Command::new(env!("CARGO_BIN_EXE_comfy-relay"))
        .args(["serve", "--help"])
        .env_clear()
        .output()
        .unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let mut settings = Vec::new();
    for line in help.lines().map(str::trim) {
        if line.starts_with("--") {
            settings.extend(line.split(' ').next());
        } else if let Some(variable) = line.strip_prefix("[env: ") {
            settings.extend(variable.split(['=', ']']).next());
        }
    }
    assert!(settings.len() > 50, "that is not the help:\n{help}");
    let documented = prose(Path::new("docs/configuration.md"));
    let documented: HashSet<&str> = documented.iter().flat_map(|line| spans(line)).collect();
    settings.retain(|setting| !documented.contains(setting));
    assert!(
        settings.is_empty(),
        "not in docs/configuration.md: {settings:?}"
    );
}

#[test]
fn every_metric_is_documented() {
    let mut metrics = Vec::new();
    for file in files(Path::new("src"), "rs") {
        if !file.ends_with("metrics.rs") {
            continue;
        }
        let code = fs::read_to_string(file).unwrap();
        for call in code.split(".register(").skip(1) {
            if let Some(name) = call.trim_start().strip_prefix('"') {
                let name = name.split('"').next().unwrap();
                metrics.push(format!("comfy_relay_{name}"));
            }
        }
    }
    assert!(metrics.len() > 10, "that is not all: {metrics:?}");
    let documented = prose(Path::new("docs/metrics.md"));
    let documented: HashSet<&str> = documented
        .iter()
        .flat_map(|line| spans(line))
        // What the encoder adds to the names of counters and of infos.
        .map(|name| name.trim_end_matches("_total").trim_end_matches("_info"))
        .collect();
    metrics.retain(|name| !documented.contains(name.as_str()));
    assert!(metrics.is_empty(), "not in docs/metrics.md: {metrics:?}");
}

#[test]
fn every_test_that_holds_a_promise_exists() {
    let mut tests = 0;
    let mut missing = Vec::new();
    for line in prose(Path::new("docs/faults.md")) {
        for (text, target) in links(&line) {
            let Some(name) = spans(text).next() else {
                continue;
            };
            tests += 1;
            let file = Path::new("docs").join(target);
            let code = fs::read_to_string(&file).unwrap_or_default();
            if !code.contains(&format!("fn {name}(")) {
                missing.push(format!("{name} in {}", file.display()));
            }
        }
    }
    assert!(tests > 40, "only {tests} tests are named");
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_map_names_files_that_exist() {
    let mut missing = Vec::new();
    for line in prose(Path::new("docs/architecture.md")) {
        for span in spans(&line) {
            let is_path = span.ends_with(".rs") || span.ends_with('/');
            let is_there = || {
                ["src", "."]
                    .iter()
                    .any(|at| Path::new(at).join(span).exists())
            };
            if is_path && !is_there() {
                missing.push(span.to_owned());
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

/// The oldest Rust that the manifest admits builds all dependencies; Clippy checks what of the standard library the
/// program uses (`incompatible_msrv`).
#[test]
fn the_declared_rust_version_is_the_one_that_is_needed() {
    let metadata = Command::new(env!("CARGO"))
        .args(["metadata", "--locked", "--offline", "--format-version", "1"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .output()
        .unwrap();
    assert!(
        metadata.status.success(),
        "{}",
        String::from_utf8_lossy(&metadata.stderr)
    );
    let metadata: serde_json::Value = serde_json::from_slice(&metadata.stdout).unwrap();
    let version = |text: &str| -> Vec<u32> {
        let parts = text.split('.').chain(std::iter::repeat("0"));
        parts.take(3).map(|part| part.parse().unwrap()).collect()
    };
    let (mut declared, mut needed) = (Vec::new(), Vec::new());
    for package in metadata["packages"].as_array().unwrap() {
        let Some(rust_version) = package["rust_version"].as_str() else {
            continue;
        };
        if package["name"] == env!("CARGO_PKG_NAME") {
            declared = version(rust_version);
        } else {
            needed = needed.max(version(rust_version));
        }
    }
    assert!(needed > version("1.85"), "{needed:?}");
    assert_eq!(declared, needed);
}

/// On a machine of its own, which needs the rights of root: `tests/documents/run_commands.py`.
#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_documents_works_as_written() {
    const NEEDED: [&str; 7] = [
        "unshare",
        "python3",
        "curl",
        "redis-server",
        "sqlite3",
        "pg_restore",
        "openssl",
    ];
    if !NEEDED
        .iter()
        .all(|tool| is_installed(tool, "tests/run installs it"))
    {
        return;
    }
    let namespaces = [
        "--net",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    ];
    let mut trial = Command::new("unshare");
    trial.args(namespaces).arg("true");
    if !Program::output(trial).await.status.success() {
        return println!("skipped: namespaces need the rights of root");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut run = Command::new("unshare");
    run.args(namespaces)
        .args(["python3", "-u", "tests/documents/run_commands.py"])
        .arg(env!("CARGO_BIN_EXE_comfy-relay"))
        .arg(folder.path())
        .args(documents())
        .arg("clients/python/README.md");
    let output = Program::output(run).await;
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{errors}");
}
