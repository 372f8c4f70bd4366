//! The program itself, so that it can be killed.

use std::net::{Ipv4Addr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method};
use serde_json::Value;

/// How long one request may take. Longer than the relay makes anybody wait for its database.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// A relay in a process of its own, which is killed when this is dropped.
pub(crate) struct Program {
    process: Child,
    port: u16,
    client: Client,
}

impl Program {
    /// Starts the program, which ignores the signal that tells of a file that is too large: the write
    /// fails instead.
    pub(crate) fn start(database_url: &str, comfyui_url: &str) -> Self {
        // Nobody else is given this port so soon after.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        let mut command = Command::new("sh");
        command.args(["-c", r#"trap "" XFSZ; exec "$@""#, "sh"]);
        command.arg(env!("CARGO_BIN_EXE_comfy-relay"));
        command.args(["serve", "--listen", &format!("127.0.0.1:{port}")]);
        command.args(["--database-url", database_url, "--comfyui-url", comfyui_url]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        if std::env::var_os("RELAY_STDERR").is_none() {
            command.stderr(Stdio::null());
        }
        Self {
            process: command.spawn().unwrap(),
            port,
            client: Client::builder()
                .no_proxy()
                .timeout(ANSWER_PATIENCE)
                .build()
                .unwrap(),
        }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Asks it to stop, as service managers do.
    pub(crate) fn terminate(&self) {
        let id = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(id, Signal::SIGTERM).unwrap();
    }

    /// Waits for its end, and tells its exit code.
    pub(crate) fn exit_code(mut self) -> Option<i32> {
        self.process.wait().unwrap().code()
    }

    /// The address of a WebSocket.
    pub(crate) fn socket(&self, path: &str) -> String {
        format!("ws://127.0.0.1:{}{path}", self.port)
    }

    /// Status and JSON of an answer; `None` where there is none.
    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        Some((response.status().as_u16(), response.json().await.ok()?))
    }

    pub(crate) async fn get(&self, path: &str) -> Option<(u16, Value)> {
        self.ask(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        self.ask(Method::POST, path, Some(body)).await
    }

    /// Whether it says of itself that it is so.
    pub(crate) async fn is(&self, health: &str) -> bool {
        let answer = self.get("/api/anime/health").await;
        answer.is_some_and(|(_, told)| told["status"] == health)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
