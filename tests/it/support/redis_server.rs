//! A real Redis server, with a folder of its own.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Mutex;

use comfy_relay::config::RedisConfig;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use redis::aio::MultiplexedConnection;
use redis::{Client, FromRedisValue, RedisResult, cmd};
use tempfile::TempDir;

use super::nginx::free_port;
use super::tool::is_installed;
use super::wait::wait_until;

/// Runs the server until the standard input is closed, which happens however the tests end. Then kills it.
const WRAPPER: &str = r#"
"$@" >>log 2>&1 </dev/null &
server=$!
read -r word
kill -KILL "$server"
wait "$server"
"#;

/// Keeps nothing on the disk: a server that is restarted is empty.
const SETTINGS: [&str; 6] = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"];

/// A Redis server, killed on drop.
pub(crate) struct RedisServer {
    folder: TempDir,
    port: u16,
    settings: Vec<String>,
    is_sentinel: bool,
    running: Option<(Child, ChildStdin)>,
}

impl RedisServer {
    /// Starts a server, and waits until it answers; `None` on a machine without one.
    pub(crate) async fn start() -> Option<Self> {
        let server = Self::with(&[])?;
        server.ready().await;
        Some(server)
    }

    /// Starts a server with more settings; `None` on a machine without one.
    pub(crate) fn with(settings: &[&str]) -> Option<Self> {
        if !is_installed("redis-server", "apt-get install redis-server") {
            return None;
        }
        let mut server = Self {
            folder: tempfile::tempdir().unwrap(),
            // Redis cannot choose a port itself; no other process is given this one so soon after.
            port: free_port(),
            settings: settings.iter().map(|&it| it.to_owned()).collect(),
            is_sentinel: false,
            running: None,
        };
        server.run();
        Some(server)
    }

    /// Starts a server that speaks TLS alone. Its own certificate is the authority, in this file.
    pub(crate) fn encrypted() -> Option<(Self, PathBuf)> {
        Self::encrypted_with(&[])
    }

    /// The same, with more settings.
    pub(crate) fn encrypted_with(more: &[&str]) -> Option<(Self, PathBuf)> {
        let folder = tempfile::tempdir().unwrap().keep();
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let [certificate, key] = ["ca.pem", "key.pem"].map(|name| folder.join(name));
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        let port = free_port();
        let files = [&certificate, &key].map(|file| file.display().to_string());
        let settings = [
            "--port",
            "0",
            "--tls-port",
            &port.to_string(),
            "--tls-auth-clients",
            "no",
            "--tls-ca-cert-file",
            &files[0],
            "--tls-cert-file",
            &files[0],
            "--tls-key-file",
            &files[1],
        ];
        let mut server = Self::with(&[&settings[..], more].concat())?;
        server.port = port;
        Some((server, certificate))
    }

    /// A server that copies this one, once it has.
    pub(crate) async fn replica(&self) -> Self {
        let port = self.port.to_string();
        let replica = Self::with(&["--replicaof", "127.0.0.1", &port]).unwrap();
        replica.ready().await;
        wait_until("the replica has the data", async || {
            let role: Vec<redis::Value> = replica.command(&["ROLE"]).await;
            matches!(&role[3], redis::Value::BulkString(state) if state == b"connected")
        })
        .await;
        replica
    }

    /// A sentinel that watches a server with one replica under this name, and knows both.
    pub(crate) async fn sentinel(master: &Self, name: &str) -> Self {
        let port = free_port();
        let settings = format!(
            "bind 127.0.0.1\nport {port}\nsentinel monitor {name} 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds {name} 500\nsentinel failover-timeout {name} 3000\n",
            master.port
        );
        let mut sentinel = Self {
            folder: tempfile::tempdir().unwrap(),
            port,
            settings: Vec::new(),
            is_sentinel: true,
            running: None,
        };
        std::fs::write(sentinel.folder.path().join("sentinel.conf"), settings).unwrap();
        sentinel.run();
        sentinel.ready().await;
        wait_until("the sentinel knows the replica", async || {
            let replicas: Vec<redis::Value> =
                sentinel.command(&["SENTINEL", "REPLICAS", name]).await;
            !replicas.is_empty()
        })
        .await;
        sentinel
    }

    fn run(&mut self) {
        let mut wrapper = Command::new("sh");
        wrapper.args(["-c", WRAPPER, "sh", "redis-server"]);
        if self.is_sentinel {
            wrapper.args(["sentinel.conf", "--sentinel"]);
        } else {
            if !self.settings.iter().any(|it| it == "--port") {
                wrapper.args(["--port", &self.port.to_string()]);
            }
            wrapper.args(SETTINGS).args(&self.settings);
        }
        wrapper.current_dir(self.folder.path());
        wrapper.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut wrapper = wrapper.stderr(Stdio::null()).spawn().unwrap();
        let lifeline = wrapper.stdin.take().unwrap();
        self.running = Some((wrapper, lifeline));
    }

    /// Kills the server (SIGKILL), and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if let Some((mut wrapper, lifeline)) = self.running.take() {
            drop(lifeline);
            let _ = wrapper.wait();
        }
    }

    /// Whether it was not killed.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Starts the killed server again, on the same port and empty.
    pub(crate) async fn restart(&mut self) {
        self.run();
        self.ready().await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.address())
    }

    /// The server as the relay's settings name it.
    pub(crate) fn config(&self) -> RedisConfig {
        self.url().parse().unwrap()
    }

    /// Waits until it answers.
    pub(crate) async fn ready(&self) {
        wait_until("Redis answers", async || self.connect().await.is_some()).await;
    }

    async fn connect(&self) -> Option<MultiplexedConnection> {
        let client = Client::open(self.url()).unwrap();
        let connecting = client.get_multiplexed_async_connection();
        connecting.await.ok()
    }

    /// The answer to a command.
    pub(crate) async fn command<T: FromRedisValue>(&self, words: &[&str]) -> T {
        self.try_command(words).await.unwrap()
    }

    /// The answer to a command, or the server's error.
    pub(crate) async fn try_command<T: FromRedisValue>(&self, words: &[&str]) -> RedisResult<T> {
        let connected = Mutex::new(None);
        wait_until("Redis answers", async || {
            let connection = self.connect().await;
            let is_connected = connection.is_some();
            *connected.lock().unwrap() = connection;
            is_connected
        })
        .await;
        let mut connection = connected.into_inner().unwrap().unwrap();
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("log"));
            eprintln!("{}", log.unwrap_or_default());
        }
    }
}
