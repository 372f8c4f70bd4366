//! A real PgBouncer in front of a PostgreSQL server.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::nginx::free_port;
use super::postgres::{Cluster, USER};
use super::tool::skip;
use super::wait::wait_until;

/// A PgBouncer that gives each transaction another connection of its pool, stopped on drop.
pub(crate) struct PgBouncer {
    folder: TempDir,
    process: Child,
    port: u16,
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log"));
            eprintln!("{}", log.unwrap_or_default());
        }
    }
}

/// The user and the group that own the files of PostgreSQL: PgBouncer refuses to run as root.
fn postgres_ids() -> Option<(u32, u32)> {
    let id = |flag: &str| {
        let output = Command::new("id")
            .args([flag, "postgres"])
            .output()
            .unwrap();
        String::from_utf8(output.stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    is_root.then(|| (id("-u"), id("-g")))
}

impl PgBouncer {
    /// Starts it with more settings; `None` on a machine without it.
    pub(crate) async fn before(cluster: &Cluster, settings: &str) -> Option<Self> {
        let places = [
            "/usr/sbin/pgbouncer",
            "/usr/local/bin/pgbouncer",
            "/usr/bin/pgbouncer",
        ];
        let Some(program) = places.into_iter().find(|path| Path::new(path).exists()) else {
            skip("pgbouncer", "apt-get install pgbouncer");
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path().display();
        let (server, port) = (cluster.address().port(), free_port());
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nlogfile = {here}/log\nauth_type = trust\n\
             auth_file = {here}/users\npool_mode = transaction\ndefault_pool_size = 5\n\
             server_round_robin = 1\n{settings}\n"
        );
        fs::write(folder.path().join("pgbouncer.ini"), config).unwrap();
        fs::write(folder.path().join("users"), format!("\"{USER}\" \"\"\n")).unwrap();
        let mut command = Command::new(program);
        if let Some((user, group)) = postgres_ids() {
            std::os::unix::fs::chown(folder.path(), Some(user), Some(group)).unwrap();
            command.uid(user).gid(group);
        }
        command.args(["-q", &format!("{here}/pgbouncer.ini")]);
        command.current_dir("/").stdin(Stdio::null());
        let process = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pgbouncer = Self {
            folder,
            process,
            port,
        };
        wait_until("PgBouncer listens", async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port))
                .await
                .is_ok()
        })
        .await;
        Some(pgbouncer)
    }

    /// The address of a database behind it.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }
}
