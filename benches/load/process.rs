//! The servers, each in a process of its own, and the CPU time and memory that they use.

use std::io::{BufRead, BufReader, Lines};
use std::net::SocketAddr;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use nix::time::ClockId;
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::options::LoadOptions;

/// What a server prints before its address once it listens.
pub(crate) const SERVING: &str = "serving http://";

/// What the relay prints before the address of ComfyUI's own API.
const SERVING_COMFY: &str = "serving ComfyUI's API at http://";

/// A ComfyUI that is not reachable: nothing listens on this reserved port.
const UNREACHABLE: &str = "http://127.0.0.1:1";

/// Seconds, longer than any round: a ping during a round would distort the comparison.
const NEVER: &str = "86400";

/// The lines that a server prints.
type Printed = Lines<BufReader<ChildStderr>>;

/// The CPU time that this process has used so far.
pub(crate) fn own_cpu() -> anyhow::Result<Duration> {
    Ok(ClockId::CLOCK_PROCESS_CPUTIME_ID.now()?.into())
}

/// What the relays of one system share.
pub(crate) struct Site {
    database: String,
    redis: String,
    /// The schema in the database, and the prefix of all names on the Redis server.
    name: String,
}

impl Site {
    /// On the servers that are set; `None` if one is missing.
    pub(crate) fn from_environment() -> Option<Self> {
        Some(Self {
            database: std::env::var("DATABASE_URL").ok()?,
            redis: std::env::var("REDIS_URL").ok()?,
            name: format!("load_{}", std::process::id()),
        })
    }

    /// A part of it in which nothing is yet.
    pub(crate) fn of_its_own(&self, name: &str) -> Self {
        Self {
            database: self.database.clone(),
            redis: self.redis.clone(),
            name: format!("{}_{name}", self.name),
        }
    }
}

/// A server that is measured. Killed when this is dropped.
pub(crate) struct Server {
    process: Child,
    clock: ClockId,
    pub(crate) address: SocketAddr,
    /// Deleted after the process has ended.
    _folder: TempDir,
}

impl Server {
    /// Starts the relay with a new database.
    ///
    /// With a ComfyUI it publishes at its default rate; without one, every state.
    pub(crate) fn relay(comfyui: Option<&str>, options: &LoadOptions) -> anyhow::Result<Self> {
        let (command, folder) = serve(comfyui, None, options)?;
        let (server, lines) = Self::start(command, folder)?;
        pass_on(lines);
        Ok(server)
    }

    /// Starts a relay that shares its jobs with the others of a site.
    pub(crate) fn at(site: &Site, options: &LoadOptions) -> anyhow::Result<Self> {
        let (mut command, folder) = serve(None, Some(&site.database), options)?;
        command.args(["--redis-url", &site.redis]);
        command.args(["--db-schema", &site.name, "--redis-prefix", &site.name]);
        let (server, lines) = Self::start(command, folder)?;
        pass_on(lines);
        Ok(server)
    }

    /// Starts the relay before a ComfyUI, with ComfyUI's own API at the address that is returned too.
    pub(crate) fn with_door(
        comfyui: &str,
        options: &LoadOptions,
    ) -> anyhow::Result<(Self, SocketAddr)> {
        let (mut command, folder) = serve(Some(comfyui), None, options)?;
        command.args(["--comfy-listen", "127.0.0.1:0"]);
        let (server, mut lines) = Self::start(command, folder)?;
        let door = await_address(&mut lines, SERVING_COMFY)?;
        pass_on(lines);
        Ok((server, door))
    }

    /// Starts the floor.
    pub(crate) fn floor() -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--floor");
        let (server, lines) = Self::start(command, tempfile::tempdir()?)?;
        pass_on(lines);
        Ok(server)
    }

    /// Starts a server. Returns also what it goes on to print.
    fn start(mut command: Command, folder: TempDir) -> anyhow::Result<(Self, Printed)> {
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        let stderr = process
            .stderr
            .take()
            .context("the server's standard error is not piped")?;
        let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(i32::try_from(process.id())?))?;
        let mut server = Self {
            process,
            clock,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            _folder: folder,
        };
        let mut lines = BufReader::new(stderr).lines();
        server.address = await_address(&mut lines, SERVING)?;
        Ok((server, lines))
    }

    /// The CPU time that all its threads have used so far, including those that have ended.
    pub(crate) fn cpu(&self) -> anyhow::Result<Duration> {
        Ok(self.clock.now()?.into())
    }

    /// Its proportional set size (PSS), in bytes.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        let rollup = format!("/proc/{}/smaps_rollup", self.process.id());
        let rollup = std::fs::read_to_string(rollup)?;
        let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"));
        let kilobytes: u64 = line
            .and_then(|line| line.split_whitespace().next())
            .context("smaps_rollup has no Pss")?
            .parse()?;
        Ok(kilobytes * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails if it has ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The command that starts the relay, and a folder for its database if there is none.
fn serve(
    comfyui: Option<&str>,
    database: Option<&str>,
    options: &LoadOptions,
) -> anyhow::Result<(Command, TempDir)> {
    let publish_rate = if comfyui.is_some() { "10" } else { "0" };
    let folder = tempfile::tempdir()?;
    let of_its_own = || format!("sqlite:{}", folder.path().join("load.db").display());
    let database = database.map_or_else(of_its_own, str::to_owned);
    let mut command = Command::new(&options.program);
    // Warnings, and the lines with the addresses.
    command.args(["--log", "warn,comfy_relay::cli=info", "serve"]);
    command.args(["--listen", "127.0.0.1:0", "--database-url", &database]);
    command.args(["--comfyui-url", comfyui.unwrap_or(UNREACHABLE)]);
    // Flags take precedence over these.
    command.env("WEBSOCKET_PING_INTERVAL", NEVER);
    command.env("WEBSOCKET_CONNECTION_TIMEOUT", NEVER);
    command.env("WEBSOCKET_JOB_WAIT", NEVER);
    command.env("PUBLISH_RATE", publish_rate);
    command.args(&options.relay);
    Ok((command, folder))
}

/// Waits for the address that the server prints after `before`.
fn await_address(lines: &mut Printed, before: &str) -> anyhow::Result<SocketAddr> {
    let mut output = Vec::new();
    loop {
        let Some(line) = lines.next().transpose()? else {
            anyhow::bail!("the server ended: {}", output.join("\n"));
        };
        if let Some((_, rest)) = line.split_once(before) {
            let address = rest.split('/').next().unwrap_or_default();
            return address
                .parse()
                .with_context(|| format!("not an address: {line}"));
        }
        output.push(line);
    }
}

/// Passes on what the server prints.
fn pass_on(lines: Printed) {
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            eprintln!("{line}");
        }
    });
}
