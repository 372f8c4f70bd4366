//! Programs that some tests need beside the relay, as `tests/run` installs them.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::wait::PATIENCE;

/// Where `tests/run` puts packages of npm and pip.
const TOOLS: &str = "target/tools";

/// A program that prints one line of JSON for each event. Killed on drop.
pub(crate) struct Events {
    process: Child,
    /// What it prints. The channel closes after the last line.
    lines: mpsc::UnboundedReceiver<String>,
}

/// Whether a program is there. If not, the test is skipped, and says so.
pub(crate) fn is_installed(program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders = std::env::split_paths(&path);
    let is_there = folders.any(|folder| folder.join(program).exists());
    if !is_there {
        skip(program, package);
    }
    is_there
}

/// A program or package below the folder of `tests/run`; `None`, with a word about it, if it is not there.
pub(crate) fn installed(path: &str) -> Option<PathBuf> {
    let found = Path::new(TOOLS).join(path);
    if !found.exists() {
        skip(path, "tests/run installs it");
        return None;
    }
    Some(std::path::absolute(found).unwrap())
}

/// Says that a test is skipped, because a program is missing.
pub(crate) fn skip(program: &str, package: &str) {
    println!("skipped: {program} is not installed: {package}");
}

/// A command of node; `None` on a machine without it.
pub(crate) fn node(script: &str) -> Option<Command> {
    if !is_installed("node", "apt-get install nodejs") {
        return None;
    }
    let mut command = Command::new("node");
    command.args(["--no-warnings", script]);
    Some(command)
}

/// A command of node with a WebSocket like those of browsers; `None` on a machine without that.
pub(crate) fn node_with_websocket(script: &str) -> Option<Command> {
    const FLAG: &str = "--experimental-websocket";
    let mut command = node(script)?;
    // Versions before 20 know no such flag.
    let tried = Command::new("node")
        .args([FLAG, "--eval", "0"])
        .output()
        .unwrap();
    if !tried.status.success() {
        skip("node with WebSocket", "install nodejs 20 or newer");
        return None;
    }
    command.env("NODE_OPTIONS", FLAG);
    Some(command)
}

impl Events {
    /// Starts the program. Its standard input stays open until this is dropped.
    pub(crate) fn of(mut command: Command) -> Self {
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (printed, lines) = mpsc::unbounded_channel();
        // Blocks, and ends with the process.
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                // Fails if the test has ended.
                let _ = printed.send(line);
            }
        });
        Self { process, lines }
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Value {
        let line = timeout(PATIENCE, self.lines.recv()).await;
        let line = line.expect("the program prints nothing");
        let line = line.expect("the program has ended");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("not an event: {line}"))
    }

    /// All events up to the first of this name.
    pub(crate) async fn until(&mut self, name: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            let is_last = event["event"] == name;
            events.push(event);
            if is_last {
                return events;
            }
        }
    }

    /// Closes the program's standard input, and waits for its end. Whether it succeeded.
    pub(crate) async fn end(mut self) -> bool {
        drop(self.process.stdin.take());
        let ended = timeout(PATIENCE, async {
            while self.lines.recv().await.is_some() {}
        });
        assert!(ended.await.is_ok(), "the program does not end");
        self.process.wait().unwrap().success()
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
