//! Whether an address to listen on is free.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;

use super::finding::Finding;
use crate::cli::serve;

/// How long what listens there already may take to say whether it is a relay.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Binds the address for a moment. `setting` names it.
pub(super) async fn check(address: SocketAddr, setting: &str) -> Finding {
    let check = format!("listen {address}");
    let error = match serve::bind(address) {
        Ok(_) => return Finding::ok(check, "the address is free".to_owned()),
        Err(error) => error,
    };
    let other = format!("choose another address ({setting})");
    match error.kind() {
        ErrorKind::AddrInUse if is_relay(address).await => Finding::warn(
            check,
            "a relay serves there already".to_owned(),
            format!("nothing, if it is the one that you mean; else {other}"),
        ),
        ErrorKind::AddrInUse => Finding::fault(
            check,
            "another program listens there, or a relay with TLS".to_owned(),
            format!("stop it (ss -ltnp shows it), or {other}"),
        ),
        ErrorKind::AddrNotAvailable => Finding::fault(
            check,
            "no interface of this machine has the address".to_owned(),
            other,
        ),
        ErrorKind::PermissionDenied => Finding::fault(
            check,
            "this user may not listen there: ports below 1024 need a right".to_owned(),
            format!(
                "{other}, or give it the right (AmbientCapabilities=CAP_NET_BIND_SERVICE of systemd)"
            ),
        ),
        _ => Finding::fault(check, format!("cannot listen there: {error}"), other),
    }
}

async fn is_relay(mut address: SocketAddr) -> bool {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    let Ok(client) = Client::builder().no_proxy().timeout(TIMEOUT).build() else {
        return false;
    };
    let Ok(answer) = client.get(format!("http://{address}/healthz")).send().await else {
        return false;
    };
    let answer = answer.json::<Value>().await;
    answer.is_ok_and(|answer| answer["status"] == "alive")
}
