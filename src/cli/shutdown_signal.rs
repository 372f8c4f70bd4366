/// Waits until the user or the system asks the program to end: Ctrl-C or SIGTERM.
#[cfg(unix)]
pub(super) async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};

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

/// Waits until the user or the system asks the program to end: Ctrl-C, the console is closed, or the system is shut
/// down.
#[cfg(windows)]
pub(super) async fn shutdown_signal() {
    use tokio::signal::windows::{ctrl_close, ctrl_shutdown};

    match (ctrl_close(), ctrl_shutdown()) {
        (Ok(mut close), Ok(mut shutdown)) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = close.recv() => {}
            _ = shutdown.recv() => {}
        },
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "cannot listen for the end of the console, only for Ctrl-C");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}
