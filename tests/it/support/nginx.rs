//! A real nginx, with a configuration of its own.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::tool::skip;
use super::wait::wait_until;

/// An nginx server, stopped on drop.
pub(crate) struct Nginx {
    folder: TempDir,
    process: Child,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.folder.path().join("error.log"));
            eprintln!("{}", log.unwrap_or_default());
        }
    }
}

/// A port for nginx, which cannot choose one itself; no other process is given this one so soon after.
pub(crate) fn free_port() -> u16 {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    port.local_addr().unwrap().port()
}

impl Nginx {
    /// An nginx that serves a server below a path, with the address there.
    pub(crate) async fn under_a_path(path: &str, url: &str) -> Option<(Self, String)> {
        let port = free_port();
        let server = format!(
            "server {{ listen 127.0.0.1:{port}; location {path} {{ proxy_pass {url}/; \
             proxy_http_version 1.1; proxy_set_header Host $http_host; \
             proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; }} }}"
        );
        let nginx = Self::start(tempfile::tempdir().unwrap(), port, &server).await?;
        Some((nginx, format!("http://127.0.0.1:{port}{path}")))
    }

    /// Starts it in a folder with what stands in its `http` block, and waits until it listens on a port; `None`
    /// on a machine without nginx.
    pub(crate) async fn start(folder: TempDir, port: u16, http: &str) -> Option<Self> {
        let places = ["/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/bin/nginx"];
        let Some(program) = places.into_iter().find(|path| Path::new(path).exists()) else {
            skip("nginx", "apt-get install nginx");
            return None;
        };
        let here = folder.path().display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {here}/{kind};\n"))
            .concat();
        let config = format!(
            "daemon off;\nmaster_process off;\npid {here}/pid;\nerror_log {here}/error.log;\n\
             events {{}}\nhttp {{\naccess_log off;\n{temporary}{http}}}\n"
        );
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(at("nginx.conf"), config).unwrap();
        let process = Command::new(program)
            .args([
                "-p",
                &at(""),
                "-c",
                &at("nginx.conf"),
                "-e",
                &at("error.log"),
            ])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { folder, process };
        wait_until("nginx listens", async || {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port))
                .await
                .is_ok()
        })
        .await;
        Some(nginx)
    }
}
