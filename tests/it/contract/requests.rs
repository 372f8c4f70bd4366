//! Requests that nobody here has thought of: schemathesis makes them of the OpenAPI document, valid ones and wrong ones.

use std::process::Command;

use crate::support::program::Program;
use crate::support::recordings::TXT2IMG;
use crate::support::tool::installed;

/// How many requests of each kind are made of one operation.
const EXAMPLES: &str = "12";

/// The same requests each time.
const SEED: &str = "20251130";

/// Streams stay open: other tests check what they answer.
const STREAMS: [&str; 2] = ["events", "job_events"];

/// A request that fits its schema may still ask for a job or a node class that there is not.
const NOT_CHECKED: &str = "positive_data_acceptance";

#[tokio::test(flavor = "multi_thread")]
async fn schemathesis_finds_no_answer_that_is_not_documented() {
    let Some(schemathesis) = installed("python-schemathesis/bin/schemathesis") else {
        return;
    };
    let comfyui = Program::replay(TXT2IMG, "127.0.0.1:0");
    comfyui.ready().await;
    let comfyui_url = format!("http://{}", comfyui.address());
    let relay = Program::with_database("sqlite::memory:", &comfyui_url).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(schemathesis);
    command.current_dir(folder.path());
    command.args(["run", &format!("http://{}/openapi.json", relay.address())]);
    command.args([
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        EXAMPLES,
    ]);
    command.args(["--seed", SEED, "--generation-database", "none"]);
    command.args([
        "--checks",
        "all",
        "--exclude-checks",
        NOT_CHECKED,
        "--continue-on-failure",
    ]);
    for stream in STREAMS {
        command.args(["--exclude-operation-id", stream]);
    }
    let output = Program::output(command).await;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("seed {SEED}\n{text}");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
