//! The servers, each in a process of its own, and what they use.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::time::ClockId;
use nix::unistd::Pid;
use tempfile::TempDir;

/// What a server says when it listens, before its address.
pub(crate) const SERVING: &str = "serving http://";

/// A ComfyUI that is not there: the port is reserved, and nobody listens on it.
const NOBODY: &str = "http://127.0.0.1:1";

/// Longer than any round takes: rounds are to be compared, so no ping falls into one of them.
const NEVER: &str = "86400";

/// The processor time that this process has used so far.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into())
}

/// A server that is measured. Killed when this is dropped.
pub(crate) struct Server {
    process: Child,
    clock: ClockId,
    pub(crate) address: SocketAddr,
    /// Deleted after the process is gone.
    _folder: TempDir,
}

impl Server {
    /// The relay, with a database of its own. `extra` are arguments of its own.
    ///
    /// With a ComfyUI it publishes as often as it does by itself; without one, every state.
    pub(crate) fn relay(comfyui: Option<&str>, extra: &[String]) -> anyhow::Result<Self> {
        let publish_rate = if comfyui.is_some() { "10" } else { "0" };
        let folder = tempfile::tempdir()?;
        let database = format!("sqlite:{}", folder.path().join("load.db").display());
        let mut command = Command::new(env!("CARGO_BIN_EXE_comfy-relay"));
        // Warnings, and the line that tells the address.
        command.args(["--log", "warn,comfy_relay::cli=info", "serve"]);
        command.args(["--listen", "127.0.0.1:0", "--database-url", &database]);
        command.args(["--comfyui-url", comfyui.unwrap_or(NOBODY)]);
        // Flags win over these.
        command.env("WEBSOCKET_PING_INTERVAL", NEVER);
        command.env("WEBSOCKET_CONNECTION_TIMEOUT", NEVER);
        command.env("PUBLISH_RATE", publish_rate);
        command.args(extra);
        Self::start(command, folder)
    }

    /// The loop of writes.
    pub(crate) fn floor() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--floor");
        Self::start(command, tempfile::tempdir()?)
    }

    fn start(mut command: Command, folder: TempDir) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stderr = process
            .stderr
            .take()
            .context("the server's messages are not piped")?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(process.id())?))?;
        let mut server = Self {
            process,
            clock,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            _folder: folder,
        };
        server.address = await_address(stderr)?;
        Ok(server)
    }

    /// The processor time that all its threads have used so far, those that have ended included.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.clock.now()?.into())
    }

    /// The memory that it alone accounts for (PSS), in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let rollup = format!("/proc/{}/smaps_rollup", self.process.id());
        let told = std::fs::read_to_string(rollup)?;
        let line = told.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes: u64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("smaps_rollup tells no Pss")?
            .parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails where it is gone already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads the address that the server tells. What it tells from then on is passed on.
fn await_address(stderr: ChildStderr) -> anyhow::Result<SocketAddr> {
    let mut lines = BufReader::new(stderr).lines();
    let mut told = Vec::new();
    loop {
        let Some(line) = lines.next().transpose()? else {
            anyhow::bail!("the server does not serve: {}", told.join("\n"));
        };
        if let Some((_, rest)) = line.split_once(SERVING) {
            let address = rest.split('/').next().unwrap_or_default();
            let address = address
                .parse()
                .with_context(|| format!("no address: {line}"))?;
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    eprintln!("{line}");
                }
            });
            return Ok(address);
        }
        told.push(line);
    }
}
