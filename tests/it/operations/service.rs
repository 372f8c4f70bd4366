//! The program as a service of systemd.

use std::process::Command;

use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::support::program::Program;
use crate::support::tool::is_installed;
use crate::support::wait::PATIENCE;

const UNIT: &str = "packaging/comfy-relay.service";

/// Receives what the program tells systemd, until it tells this.
async fn is_told(socket: &UnixDatagram, wanted: &str) {
    let receiving = timeout(PATIENCE, async {
        let mut message = [0; 256];
        loop {
            let length = socket.recv(&mut message).await.unwrap();
            let told = str::from_utf8(&message[..length]).unwrap();
            if told.lines().any(|line| line == wanted) {
                return;
            }
        }
    });
    let told = receiving.await;
    assert!(told.is_ok(), "{wanted} does not come");
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_that_the_relay_serves_lives_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "200000"),
    ];
    let mut relay = Program::start(&[], &variables);
    is_told(&socket, "READY=1").await;
    // Its log, where the address is, is read by another thread.
    relay.ready().await;
    assert!(relay.get("/healthz").await.is_some(), "it listens already");
    is_told(&socket, "WATCHDOG=1").await;
    relay.terminate();
    is_told(&socket, "STOPPING=1").await;
    assert!(relay.exit_status().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_finds_nothing_wrong_with_the_unit() {
    if !is_installed("systemd-analyze", "apt-get install systemd") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(UNIT).unwrap();
    let program = env!("CARGO_BIN_EXE_comfy-relay");
    let unit = unit.replace("/usr/bin/comfy-relay", program);
    let path = folder.path().join("comfy-relay.service");
    std::fs::write(&path, unit).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).arg(&path);
    let output = Program::output(verify).await;
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let of_unit: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("comfy-relay"))
        .collect();
    assert!(of_unit.is_empty() && output.status.success(), "{said}");
}
