//! The `comfy-relay` program: parses the command line, starts tracing, runs the command, and maps
//! its failure to an exit code.

use std::process::ExitCode;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod allocator;

fn main() -> ExitCode {
    comfy_relay::cli::run()
}
