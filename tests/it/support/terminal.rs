//! The program in a terminal of a certain width.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use tokio::sync::watch;
use tokio::time::timeout;

use super::wait::PATIENCE;

/// A command of the program that runs in a terminal, killed on drop.
pub(crate) struct Terminal {
    process: Child,
    /// Everything that it has drawn so far. The channel closes at its end.
    drawn: watch::Receiver<String>,
    /// Its keyboard.
    keys: ChildStdin,
}

impl Terminal {
    /// Starts a command of the program in a terminal with so many columns. The arguments need no quotes.
    pub(crate) fn start(columns: u16, arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let program = env!("CARGO_BIN_EXE_comfy-relay");
        let command = format!(
            "stty cols {columns} rows 24; exec '{program}' {}",
            arguments.join(" ")
        );
        let mut script = Command::new("script");
        script.args([
            "--quiet",
            "--return",
            "--flush",
            "--command",
            &command,
            "/dev/null",
        ]);
        script
            .env("TERM", "xterm-256color")
            .envs(variables.iter().copied());
        script.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = script.spawn().unwrap();
        let mut output = process.stdout.take().unwrap();
        let keys = process.stdin.take().unwrap();
        let (sender, drawn) = watch::channel(String::new());
        // Blocks, and ends with the process.
        std::thread::spawn(move || {
            let mut bytes = [0; 4_096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                let text = String::from_utf8_lossy(&bytes[..count]);
                sender.send_modify(|drawn| drawn.push_str(&text));
            }
        });
        Self {
            process,
            drawn,
            keys,
        }
    }

    /// Types a text.
    pub(crate) fn types(&mut self, text: &str) {
        self.keys.write_all(text.as_bytes()).unwrap();
    }

    /// Waits until it has drawn a text.
    pub(crate) async fn draws(&mut self, text: &str) {
        let drawn = timeout(PATIENCE, self.drawn.wait_for(|drawn| drawn.contains(text))).await;
        let is_drawn = drawn.is_ok_and(|drawn| drawn.is_ok());
        assert!(is_drawn, "{text:?} is not in {:?}", *self.drawn.borrow());
    }

    /// Everything that it has drawn so far.
    pub(crate) fn drawn(&self) -> String {
        self.drawn.borrow().clone()
    }

    /// Waits for its end. Returns its exit code, and everything that it has drawn.
    pub(crate) async fn end(mut self) -> (Option<i32>, String) {
        let ended = timeout(PATIENCE, async {
            while self.drawn.changed().await.is_ok() {}
        })
        .await;
        let drawn = self.drawn.borrow().clone();
        assert!(ended.is_ok(), "it still runs: {drawn:?}");
        (self.process.wait().unwrap().code(), drawn)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
