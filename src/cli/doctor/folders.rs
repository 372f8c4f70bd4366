//! Whether folders can be read and written.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;

use uuid::Uuid;

use super::finding::Finding;
use crate::config::Config;

/// Made and removed in a folder that must be writable.
const TRIAL: &str = ".comfy-relay-doctor";

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let mut findings = vec![workflows(&config.relay.workflows)];
    let key_folder = config
        .relay
        .queue_key_file
        .as_deref()
        .and_then(Path::parent);
    for (name, folder, setting) in [
        (
            "keep outputs",
            config.relay.keep_outputs.as_deref(),
            "--keep-outputs, KEEP_OUTPUTS",
        ),
        (
            "thumbnails",
            config.server.cache_dir.as_deref(),
            "--cache-dir, CACHE_DIR",
        ),
        ("queue key", key_folder, "--queue-key-file, QUEUE_KEY_FILE"),
    ] {
        findings.extend(folder.map(|folder| writable(name, folder, setting)));
    }
    findings
}

fn workflows(folder: &Path) -> Finding {
    let check = format!("workflows {}", folder.display());
    match fs::read_dir(folder) {
        Ok(files) => Finding::ok(check, format!("the folder has {} files", files.count())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::ok(
            check,
            "there is no such folder: no workflow has a name".to_owned(),
        ),
        Err(error) => Finding::fault(
            check,
            format!("cannot read the folder: {error}"),
            "let the user of the relay read it, or name another (--workflows, WORKFLOWS)",
        ),
    }
}

/// Whether a folder can be written, or made.
pub(super) fn writable(name: &str, folder: &Path, setting: &str) -> Finding {
    let check = format!("{name} {}", folder.display());
    // A relative path begins in the working directory, whose name is empty here.
    let here = |path: &Path| {
        if path.as_os_str().is_empty() {
            Path::new(".").to_owned()
        } else {
            path.to_owned()
        }
    };
    let existing = folder.ancestors().map(here).find(|it| it.exists());
    let existing = existing.unwrap_or_else(|| Path::new(".").to_owned());
    match try_out(&existing) {
        Ok(()) if existing == here(folder) => {
            Finding::ok(check, "the folder can be written".to_owned())
        }
        Ok(()) => Finding::ok(check, "the folder can be made".to_owned()),
        Err(error) => Finding::fault(
            check,
            format!("cannot write to {}: {error}", existing.display()),
            format!("let the user of the relay write there, or name another ({setting})"),
        ),
    }
}

fn try_out(folder: &Path) -> io::Result<()> {
    let file = folder.join(format!("{TRIAL}-{}", Uuid::new_v4()));
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&file)?;
    fs::remove_file(file)
}
