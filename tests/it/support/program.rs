//! The program itself in a process of its own, with everything that it logs.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use reqwest::{Client, Method};
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use super::wait::PATIENCE;

/// How long one request may take: longer than the relay waits for its database.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// As many open files as any test needs that does not test the limit.
const OPEN_FILES: u32 = 1_024;

/// Defaults of every test; an argument or a variable replaces them.
const DEFAULTS: [(&str, &str); 3] = [
    ("LISTEN", "127.0.0.1:0"),
    ("DATABASE_URL", "sqlite::memory:"),
    ("COMFYUI_URL", "http://127.0.0.1:1"),
];

/// What the program logs before its URL when it serves.
const SERVING: &str = "serving ";

/// A process of the program, killed on drop.
pub(crate) struct Program {
    process: Child,
    /// What it has logged so far. The channel closes after the last line.
    log: watch::Receiver<String>,
    client: Client,
}

impl Program {
    /// Starts `serve` with more arguments and environment variables.
    pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::start_with_files(arguments, variables, OPEN_FILES)
    }

    /// Starts `serve` with a limit on open files.
    pub(crate) fn start_with_files(
        arguments: &[&str],
        variables: &[(&str, &str)],
        open_files: u32,
    ) -> Self {
        let arguments = [&["serve"], arguments].concat();
        Self::spawn(&arguments, variables, open_files)
    }

    /// Starts any command, with the defaults of `serve`.
    pub(crate) fn start_command(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        Self::spawn(arguments, variables, OPEN_FILES)
    }

    /// Starts `serve` with a database and a ComfyUI, and waits until it serves.
    pub(crate) async fn with_database(database_url: &str, comfyui_url: &str) -> Self {
        let variables = [("DATABASE_URL", database_url), ("COMFYUI_URL", comfyui_url)];
        let program = Self::start(&[], &variables);
        program.ready().await;
        program
    }

    /// Starts `replay`: a ComfyUI that plays a recording.
    pub(crate) fn replay(recording: &str, listen: &str) -> Self {
        let folder = format!("fixtures/{recording}");
        Self::spawn(&["replay", &folder, "--listen", listen], &[], OPEN_FILES)
    }

    /// Starts `replay` at a pace at which a prompt runs for minutes: it can be killed in the middle of one.
    pub(crate) fn slow_replay(recording: &str) -> Self {
        let folder = format!("fixtures/{recording}");
        let pace = ["--listen", "127.0.0.1:0", "--speed", "0.02"];
        let arguments = [&["replay", folder.as_str()], &pace[..]].concat();
        Self::spawn(&arguments, &[], OPEN_FILES)
    }

    fn spawn(arguments: &[&str], variables: &[(&str, &str)], open_files: u32) -> Self {
        // The program raises the soft limit, so it starts with half of the hard one. With SIGXFSZ ignored,
        // a write beyond the limit on file sizes fails instead of killing the program.
        let script = format!(
            r#"trap "" XFSZ; ulimit -Sn {}; ulimit -Hn {open_files}; exec "$@""#,
            open_files / 2
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh", env!("CARGO_BIN_EXE_comfy-relay")]);
        command.args(arguments);
        command.envs(DEFAULTS).envs(variables.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let (written, log) = watch::channel(String::new());
        let stderr = process.stderr.take().unwrap();
        // Blocks, and ends with the process.
        std::thread::spawn(move || read_log(stderr, &written));
        let client = Client::builder().no_proxy().timeout(ANSWER_TIMEOUT);
        Self {
            process,
            log,
            client: client.build().unwrap(),
        }
    }

    /// Runs a command of the program to its end.
    pub(crate) async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
        command.args(arguments).envs(variables.iter().copied());
        Self::output(command).await
    }

    /// Runs a command that has been set up to its end.
    pub(crate) async fn output(mut command: Command) -> Output {
        let running = tokio::task::spawn_blocking(move || command.output());
        running.await.unwrap().unwrap()
    }

    /// Waits until it serves.
    pub(crate) async fn ready(&self) {
        self.logs(SERVING).await;
    }

    /// The address in its log, once it serves.
    pub(crate) fn address(&self) -> SocketAddr {
        let address = served_at(&self.log.borrow());
        address.unwrap_or_else(|| panic!("does not serve:\n{}", self.log()))
    }

    /// Everything that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.borrow().clone()
    }

    /// Waits until its log contains a text.
    pub(crate) async fn logs(&self, text: &str) {
        let mut log = self.log.clone();
        let logged = timeout(PATIENCE, log.wait_for(|log| log.contains(text))).await;
        let is_logged = logged.is_ok_and(|logged| logged.is_ok());
        assert!(is_logged, "{text:?} is not in\n{}", self.log());
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Waits until it has exited by itself.
    pub(crate) async fn exit_status(&mut self) -> ExitStatus {
        let mut log = self.log.clone();
        let closed = timeout(PATIENCE, async { while log.changed().await.is_ok() {} }).await;
        assert!(closed.is_ok(), "still running:\n{}", self.log());
        self.process.wait().unwrap()
    }

    /// Sends SIGKILL, and returns everything that it has logged.
    pub(crate) async fn kill(mut self) -> String {
        self.process.kill().unwrap();
        self.exit_status().await;
        self.log()
    }

    /// Sends SIGTERM, as service managers do.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.process.id()).unwrap());
        kill(id, signal).unwrap();
    }

    /// The URL of a WebSocket.
    pub(crate) fn socket_url(&self, path: &str) -> String {
        format!("ws://{}{path}", self.address())
    }

    /// The status and the JSON of a response; `None` if there is none.
    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Option<(u16, Value)> {
        let url = format!("http://{}{path}", self.address());
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.ok()?;
        Some((response.status().as_u16(), response.json().await.ok()?))
    }

    pub(crate) async fn get(&self, path: &str) -> Option<(u16, Value)> {
        self.request(Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Option<(u16, Value)> {
        self.request(Method::POST, path, Some(body)).await
    }

    /// Whether it follows all its ComfyUI servers.
    pub(crate) async fn follows_all(&self) -> bool {
        let health = self.get("/api/anime/health").await;
        let is_own = |it: &Value| it["status"] == "connected" && it["followed_elsewhere"] != true;
        health.is_some_and(|(_, health)| {
            let servers = health["components"]["comfyui"].as_array();
            servers.is_some_and(|servers| servers.iter().all(is_own))
        })
    }

    /// Whether its health check has this status.
    pub(crate) async fn is(&self, status: &str) -> bool {
        let health = self.get("/api/anime/health").await;
        health.is_some_and(|(_, health)| health["status"] == status)
    }
}

/// The address in the line with which the program logs that it serves.
fn served_at(log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let (_, url) = line.split_once(SERVING)?;
        let (_, address) = url.split_once("://")?;
        address.split('/').next()?.trim().parse().ok()
    })
}

fn read_log(stderr: ChildStderr, written: &watch::Sender<String>) {
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
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}
