//! The program itself, with all that it writes.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use tokio::sync::watch;
use tokio::time::timeout;

use super::subscriber::PATIENCE;

/// A relay in a process of its own, which is killed when this is dropped.
pub(crate) struct Program {
    process: Child,
    pub(crate) port: u16,
    /// All that was read of what it has written. Closed after the last of it.
    log: watch::Receiver<String>,
}

impl Program {
    /// Starts the program, with at most so many open files.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)], files: u32) -> Self {
        // Nobody else is given this port so soon after.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        let mut command = Command::new("sh");
        // The soft limit is lower still: the program raises it.
        let script = format!(r#"ulimit -Sn {}; ulimit -Hn {files}; exec "$@""#, files / 2);
        command.args(["-c", &script, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_comfy-relay"));
        command
            .arg("serve")
            .env("LISTEN", format!("127.0.0.1:{port}"));
        command.args(["--database-url", "sqlite::memory:"]);
        command.args(["--comfyui-url", "http://127.0.0.1:1"]);
        command.args(arguments);
        command.envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let (written, log) = watch::channel(String::new());
        let stderr = process.stderr.take().unwrap();
        // It blocks, and ends with the process.
        std::thread::spawn(move || read(stderr, &written));
        Self { process, port, log }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All that was read of what it has written: all of it once it has ended.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until it has written this.
    pub(crate) async fn says(&self, text: &str) {
        let mut log = self.log.clone();
        let said = timeout(PATIENCE, log.wait_for(|log| log.contains(text))).await;
        let is_said = said.is_ok_and(|said| said.is_ok());
        assert!(is_said, "{text:?} is not in\n{}", self.log());
    }

    pub(crate) async fn is_ready(&self) {
        self.says("serving http").await;
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut log = self.log.clone();
        let closed = timeout(PATIENCE, async { while log.changed().await.is_ok() {} }).await;
        assert!(closed.is_ok(), "it goes on:\n{}", self.log());
        self.process.wait().unwrap()
    }

    /// Kills it, and tells all that it has written.
    pub(crate) async fn kill(mut self) -> String {
        self.process.kill().unwrap();
        self.ended().await;
        self.log()
    }
}

/// Hands on each line as it comes.
fn read(stderr: ChildStderr, written: &watch::Sender<String>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = String::new();
    while stderr.read_line(&mut line).unwrap() > 0 {
        written.send_modify(|log| log.push_str(&line));
        line.clear();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
