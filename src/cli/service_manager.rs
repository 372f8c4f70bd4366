//! Notifies systemd that the program serves, lives and stops. Without systemd it does nothing.

#[cfg(target_os = "linux")]
use sd_notify::{NotifyState, notify, watchdog_enabled};
#[cfg(target_os = "linux")]
use tokio::time::interval;

/// The relay listens: services that need it may start.
#[cfg(target_os = "linux")]
pub(super) fn ready() {
    send(&[NotifyState::Ready]);
}

/// The relay stops in order, which takes a while.
#[cfg(target_os = "linux")]
pub(super) fn stopping() {
    send(&[NotifyState::Stopping]);
}

/// Says that the program lives, twice as often as systemd asks for. A program whose tasks do not run any more is killed and started
/// again. Ends only if systemd does not ask.
#[cfg(target_os = "linux")]
pub(super) async fn watch() {
    let Some(limit) = watchdog_enabled() else {
        return;
    };
    let mut pause = interval((limit / 2).max(std::time::Duration::from_millis(1)));
    loop {
        pause.tick().await;
        send(&[NotifyState::Watchdog]);
    }
}

#[cfg(target_os = "linux")]
fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = notify(state) {
        tracing::warn!(%error, "cannot notify systemd of the state of the service (NOTIFY_SOCKET)");
    }
}

/// There is no systemd.
#[cfg(not(target_os = "linux"))]
pub(super) fn ready() {}

/// There is no systemd.
#[cfg(not(target_os = "linux"))]
pub(super) fn stopping() {}

/// There is no systemd.
#[cfg(not(target_os = "linux"))]
pub(super) async fn watch() {}
