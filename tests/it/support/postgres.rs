//! PostgreSQL servers for the tests, removed afterwards.

use std::fs::{self, File};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use diesel_async::{AsyncConnection, AsyncPgConnection, SimpleAsyncConnection};
use url::Url;
use uuid::Uuid;

use super::wait::wait_until;

/// Runs the server until the standard input is closed, which happens however the tests end. Then removes
/// its folder, unless the input says to keep it.
const WRAPPER: &str = r#"
"$1/postgres" -D "$2/data" >>"$2/log" 2>&1 </dev/null &
server=$!
read -r word
kill -INT "$server"
wait "$server"
[ "$word" = keep ] || rm -rf "$2"
"#;

/// Runs the server as long as the process `$3` runs, then removes its folder. Tests share it, several relays each.
const SHARED_WRAPPER: &str = r#"
"$1/postgres" -D "$2/data" -c max_connections=300 >>"$2/log" 2>&1 </dev/null &
server=$!
while [ -d "/proc/$3" ]; do sleep 1; done
kill -INT "$server"
wait "$server"
rm -rf "$2"
"#;

/// Few connections, so that a test can use them all.
const SETTINGS: &str = "\
listen_addresses = '127.0.0.1'
max_connections = 60
superuser_reserved_connections = 3
";

/// The role of the relay: not a superuser, so that it cannot take the reserved connections.
pub(crate) const USER: &str = "relay";

/// A PostgreSQL server, stopped and removed on drop and at the end of the process.
pub(crate) struct Cluster {
    folder: PathBuf,
    port: u16,
    running: Option<Running>,
}

struct Running {
    wrapper: Child,
    lifeline: ChildStdin,
}

/// The server that all tests share that do not stop it: one for the process under `cargo test`, one for the
/// whole run under nextest.
pub(crate) async fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    let make = || match std::env::var("NEXTEST_RUN_ID") {
        Ok(run_id) => Cluster::of_run(&run_id),
        Err(_) => Cluster::make(),
    };
    let made = tokio::task::spawn_blocking(move || SHARED.get_or_init(make)).await;
    let cluster = made.unwrap();
    cluster.ready().await;
    cluster
}

impl Cluster {
    /// A server that only one test uses, which may stop it.
    pub(crate) async fn own() -> Self {
        let cluster = tokio::task::spawn_blocking(Self::make).await.unwrap();
        cluster.ready().await;
        cluster
    }

    /// A server with more settings, with rules for who may connect, and with files in its data folder.
    pub(crate) async fn with(
        settings: &'static str,
        rules: &'static str,
        files: Vec<(&'static str, String)>,
    ) -> Self {
        let make = move || {
            let folder = tempfile::Builder::new().prefix("comfy-relay-pg").tempdir();
            let mut cluster = Self::initialise(folder.unwrap().keep());
            let data = cluster.folder.join("data");
            let mut file = File::options()
                .append(true)
                .open(data.join("postgresql.conf"))
                .unwrap();
            file.write_all(settings.as_bytes()).unwrap();
            // The tests' own connections come from loopback, without encryption.
            let rules = format!("host all postgres 127.0.0.1/32 trust\n{rules}");
            fs::write(data.join("pg_hba.conf"), rules).unwrap();
            for (name, content) in files {
                let file = data.join(name);
                fs::write(&file, content).unwrap();
                // PostgreSQL uses no key that others can read.
                fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
                if is_root() {
                    run(Command::new("chown").arg("postgres").arg(&file));
                }
            }
            cluster.start();
            cluster
        };
        let cluster = tokio::task::spawn_blocking(make).await.unwrap();
        cluster.ready().await;
        cluster
    }

    /// The server of a run of nextest, started by the first test that needs it, stopped at the end of the run.
    #[expect(
        clippy::zombie_processes,
        reason = "the server outlives the test that starts it"
    )]
    fn of_run(run_id: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("comfy-relay-pg-{run_id}"));
        fs::create_dir_all(&folder).unwrap();
        // One test at a time looks for the server; the others wait.
        let lock = File::create(folder.join("lock")).unwrap();
        lock.lock().unwrap();
        let port_file = folder.join("port");
        if let Ok(port) = fs::read_to_string(&port_file) {
            return Self {
                folder,
                port: port.parse().unwrap(),
                running: None,
            };
        }
        let cluster = Self::initialise(folder);
        // The tests are children of nextest.
        let nextest = std::os::unix::process::parent_id().to_string();
        let mut wrapper = cluster.wrapper(SHARED_WRAPPER);
        wrapper.arg(nextest).process_group(0).stdin(Stdio::null());
        wrapper.spawn().unwrap();
        fs::write(port_file, cluster.port.to_string()).unwrap();
        cluster
    }

    fn make() -> Self {
        let folder = tempfile::Builder::new().prefix("comfy-relay-pg").tempdir();
        let mut cluster = Self::initialise(folder.unwrap().keep());
        cluster.start();
        cluster
    }

    /// Creates the files of a server in an existing folder.
    fn initialise(folder: PathBuf) -> Self {
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(&folder));
        }
        let data = folder.join("data");
        let mut initdb = as_postgres(&programs().join("initdb"));
        initdb.args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8"]);
        run(initdb.arg("-D").arg(&data));
        // PostgreSQL cannot choose a port itself; no other process is given this one so soon after.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        let sockets = folder.display();
        let settings = format!("{SETTINGS}port = {port}\nunix_socket_directories = '{sockets}'\n");
        let file = File::options()
            .append(true)
            .open(data.join("postgresql.conf"));
        file.unwrap().write_all(settings.as_bytes()).unwrap();
        Self {
            folder,
            port,
            running: None,
        }
    }

    /// The folder of its Unix socket.
    pub(crate) fn socket(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The address of a database, as a superuser or as the relay.
    pub(crate) fn url(&self, user: &str, database: &str) -> Url {
        format!("postgres://{user}@{}/{database}", self.address())
            .parse()
            .unwrap()
    }

    /// Starts the server, and does not wait until it is ready.
    pub(crate) fn start(&mut self) {
        let mut wrapper = self.wrapper(WRAPPER);
        // A signal that ends the tests closes the input of the wrapper, which ends the server.
        wrapper.stdin(Stdio::piped());
        let mut wrapper = wrapper.spawn().unwrap();
        let lifeline = wrapper.stdin.take().unwrap();
        self.running = Some(Running { wrapper, lifeline });
    }

    fn wrapper(&self, script: &str) -> Command {
        let mut wrapper = as_postgres(Path::new("sh"));
        wrapper.args(["-c", script, "sh"]);
        wrapper.arg(programs()).arg(&self.folder);
        wrapper.stdout(Stdio::null()).stderr(Stdio::null());
        wrapper
    }

    /// Stops the server without waiting for its clients (a fast shutdown).
    pub(crate) fn stop(&mut self) {
        let mut running = self.running.take().unwrap();
        running.lifeline.write_all(b"keep\n").unwrap();
        assert!(running.wrapper.wait().unwrap().success());
    }

    /// Waits until the server answers.
    pub(crate) async fn ready(&self) {
        let url = self.url("postgres", "postgres");
        wait_until("PostgreSQL answers", async || {
            AsyncPgConnection::establish(url.as_str()).await.is_ok()
        })
        .await;
    }

    /// Creates a database, and returns its name.
    pub(crate) async fn database(&self) -> String {
        // Not the id of the process: on one server for all tests, another one may have had it.
        let name = format!("test_{}", Uuid::new_v4().simple());
        self.execute(&format!(
            "DO $$ BEGIN CREATE ROLE {USER} LOGIN; \
             EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
        ))
        .await;
        self.execute(&format!("CREATE DATABASE {name} OWNER {USER}"))
            .await;
        name
    }

    /// Executes a statement as superuser.
    pub(crate) async fn execute(&self, sql: &str) {
        let url = self.url("postgres", "postgres");
        let mut connection = AsyncPgConnection::establish(url.as_str()).await.unwrap();
        connection.batch_execute(sql).await.unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(Running {
            mut wrapper,
            lifeline,
        }) = self.running.take()
        {
            drop(lifeline);
            let _ = wrapper.wait();
        } else {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// PostgreSQL refuses to run as root.
fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command
        .args(["-u", "postgres", "--"])
        .arg(program)
        .current_dir("/");
    command
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The folder of PostgreSQL's programs: in the path, or where Debian installs them.
fn programs() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found: Vec<PathBuf> = std::env::split_paths(&path).collect();
    if let Ok(versions) = fs::read_dir("/usr/lib/postgresql") {
        found.extend(versions.map(|version| version.unwrap().path().join("bin")));
    }
    let found = found
        .into_iter()
        .find(|folder| folder.join("initdb").exists());
    found.expect("PostgreSQL's initdb is missing; tests/run installs it")
}
