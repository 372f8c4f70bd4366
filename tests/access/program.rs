//! The program itself, with all that it writes.

use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::subscriber::PATIENCE;

/// A relay in a process of its own, which is killed when this is dropped.
pub(crate) struct Program {
    process: Child,
    pub(crate) port: u16,
    folder: TempDir,
}

impl Program {
    /// Starts the program, with at most so many open files.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)], files: u32) -> Self {
        // Nobody else is given this port so soon after.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
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
        command.stderr(File::create(folder.path().join("stderr")).unwrap());
        Self {
            process: command.spawn().unwrap(),
            port,
            folder,
        }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// All that it has written.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Waits until it has written this.
    pub(crate) async fn says(&self, text: &str) {
        let began = Instant::now();
        while !self.log().contains(text) {
            assert!(
                began.elapsed() < PATIENCE,
                "{text:?} is not in\n{}",
                self.log()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn is_ready(&self) {
        self.says("serving http").await;
    }

    /// Waits until it has ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
