//! [`ComfyuiOptions`]: the flags of commands that ask one ComfyUI server.

use anyhow::Context;

use crate::cli::exit_code::WrongSetting;
use crate::comfy::ComfyClient;
use crate::config::{ComfyConfig, ComfyConnection, ServerUrl, parse_first_comfyui_url};

/// A ComfyUI server, and how to reach it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct ComfyuiOptions {
    /// The ComfyUI server; of several with commas between them, the first
    #[arg(
        long,
        env = "COMFYUI_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8188",
        value_parser = parse_first_comfyui_url,
        value_name = "URL"
    )]
    comfyui_url: ServerUrl,

    #[command(flatten)]
    connection: ComfyConnection,
}

impl ComfyuiOptions {
    /// A client of the server. Settings that cannot be used are a [`WrongSetting`].
    pub(in crate::cli) fn client(self) -> anyhow::Result<ComfyClient> {
        let config = ComfyConfig {
            urls: vec![self.comfyui_url],
            connection: self.connection,
            ..ComfyConfig::default()
        };
        let servers = ComfyClient::all(&config).map_err(|error| WrongSetting(error.into()))?;
        servers.into_iter().next().context("no ComfyUI server")
    }
}
