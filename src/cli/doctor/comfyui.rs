//! Whether each ComfyUI server can be used.

use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use futures_util::future::join_all;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{DATE, HeaderMap};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::clock;
use super::finding::Finding;
use crate::cli::output::printable_line;
use crate::comfy::{ComfyClient, Incoming, RestError};
use crate::config::ComfyConfig;
use crate::connector;

/// How long a server may take for one answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the version, the flags and the devices are.
const STATS: &str = "/system_stats";

const ADDRESS: &str = "correct the address (--comfyui-url, COMFYUI_URL)";

const CREDENTIALS: &str = "write USER:PASSWORD@ before the host (--comfyui-url, COMFYUI_URL), or set a token (--comfyui-token, COMFYUI_TOKEN)";

const CA_FILE: &str = "--comfyui-ca-file, COMFYUI_CA_FILE";

pub(super) async fn check(config: &ComfyConfig) -> Vec<Finding> {
    let config = ComfyConfig {
        response_timeout: TIMEOUT,
        ..config.clone()
    };
    match ComfyClient::all(&config) {
        Ok(clients) => {
            let servers = clients.iter().map(|client| server(client, &config));
            join_all(servers).await.into_iter().flatten().collect()
        }
        Err(error) => {
            let text = format!("{:#}", anyhow!(error));
            vec![Finding::fault(
                "comfyui",
                text,
                "correct the file or the setting",
            )]
        }
    }
}

async fn server(client: &ComfyClient, config: &ComfyConfig) -> Vec<Finding> {
    let check = format!("comfyui {}", client.name());
    let stats = match client.rest().read_json(STATS, None).await {
        Ok(Some(stats)) if stats["system"].is_object() => stats,
        Ok(_) => {
            let text = format!("what answers there is not ComfyUI: it has no {STATS}");
            return vec![Finding::fault(check, text, ADDRESS)];
        }
        Err(error) => return vec![refused(check, error)],
    };
    let (models, socket, clock) =
        tokio::join!(models(client), socket(client, config), clock(client));
    let mut findings = vec![Finding::ok(check, description(&stats)), models, socket];
    findings.extend(clock);
    findings
}

/// Why a server does not say what it is.
fn refused(check: String, error: RestError) -> Finding {
    match &error {
        RestError::Refused { status, .. }
            if [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN].contains(status) =>
        {
            Finding::fault(check, format!("it needs credentials: {error}"), CREDENTIALS)
        }
        RestError::InvalidResponse { .. } => Finding::fault(
            check,
            format!("what answers there is not ComfyUI: {error}"),
            ADDRESS,
        ),
        RestError::Unreachable { source, .. } => {
            let certificate = connector::explain_certificate(source, CA_FILE);
            let text = certificate.unwrap_or_else(|| format!("{:#}", anyhow!(error)));
            Finding::fault(
                check,
                text,
                format!("start ComfyUI, with --listen on another machine, or {ADDRESS}"),
            )
        }
        RestError::Slow { .. } | RestError::Refused { .. } | RestError::BadRequest { .. } => {
            Finding::fault(
                check,
                error.to_string(),
                format!("look into its log, or {ADDRESS}"),
            )
        }
    }
}

/// Version, devices and flags.
fn description(stats: &Value) -> String {
    let system = &stats["system"];
    let version = system["comfyui_version"].as_str();
    let version = version.map_or_else(
        || "of 2023".to_owned(),
        |version| format!("version {version}"),
    );
    let devices = stats["devices"].as_array().into_iter().flatten();
    let devices = devices.filter_map(|device| {
        let gigabytes = |name: &str| device[name].as_f64().unwrap_or_default() / 1e9;
        let (free, all) = (gigabytes("vram_free"), gigabytes("vram_total"));
        Some(format!(
            "; {}, {free:.1} of {all:.1} GB free",
            device["name"].as_str()?
        ))
    });
    let devices: String = devices.collect();
    let words = system["argv"].as_array().into_iter().flatten().skip(1);
    let flags: Vec<&str> = words.filter_map(Value::as_str).collect();
    let flags = if flags.is_empty() {
        String::new()
    } else {
        format!("; started with {}", flags.join(" "))
    };
    printable_line(&format!("ComfyUI {version}{devices}{flags}"))
}

/// What the server has to run workflows with.
async fn models(client: &ComfyClient) -> Finding {
    let check = format!("models of {}", client.name());
    match client.rest().node_classes().await {
        Ok(classes) => {
            let count = classes.count();
            match classes.choices("CheckpointLoaderSimple", "ckpt_name") {
                Some(0) => Finding::warn(
                    check,
                    format!("{count} node classes, and no checkpoint"),
                    "put models into its folder models/checkpoints, unless its workflows load others",
                ),
                Some(models) => {
                    Finding::ok(check, format!("{count} node classes, {models} checkpoints"))
                }
                None => Finding::ok(check, format!("{count} node classes")),
            }
        }
        Err(error) => Finding::warn(
            check,
            format!("it does not say what nodes it has: {error}"),
            "look into its log: workflows cannot be checked before it gets them",
        ),
    }
}

/// Whether events can be received: proxies pass a WebSocket on only if they are configured to.
async fn socket(client: &ComfyClient, config: &ComfyConfig) -> Finding {
    let check = format!("socket of {}", client.name());
    let mut socket = client.socket(config, Arc::new(Notify::new()));
    let reason = match timeout(TIMEOUT, socket.next()).await {
        Ok(Incoming::Disconnected(reason)) => reason,
        Ok(_) => return Finding::ok(check, "its WebSocket can be opened".to_owned()),
        Err(_) => "it does not open in time".to_owned(),
    };
    Finding::fault(
        check,
        format!("its WebSocket cannot be opened: {reason}"),
        "let the proxy before it pass WebSockets on (Upgrade and Connection headers of nginx)",
    )
}

/// `None` from a server that does not name its time.
async fn clock(client: &ComfyClient) -> Option<Finding> {
    let rest = client.rest();
    let answer = rest.forward(Method::GET, (STATS, None), HeaderMap::new(), None);
    let answer = timeout(TIMEOUT, answer).await.ok()?.ok()?;
    let here = Timestamp::now();
    let there = answer.headers().get(DATE)?.to_str().ok()?;
    let there = rfc2822::parse(there).ok()?.timestamp();
    Some(clock::check(
        format!("clock of {}", client.name()),
        there,
        here,
    ))
}
