use tokio::signal::unix::{SignalKind, signal};

/// Waits until the user or the system asks the program to end: Ctrl-C or SIGTERM.
pub(super) async fn shutdown_signal() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        Err(error) => {
            tracing::warn!(%error, "cannot listen for SIGTERM, only for Ctrl-C");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
