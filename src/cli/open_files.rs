//! Raises the limit of open file descriptors, of which every connection takes one, and warns before it is reached.

use std::time::Duration;

use tokio::time::sleep;

/// How often open file descriptors are counted.
const INTERVAL: Duration = Duration::from_secs(5);

/// Raises the limit to the highest that the system allows (the hard limit), and returns it; `None` if it cannot be
/// read.
pub(super) fn raise_limit() -> Option<u64> {
    let raised = rlimit::increase_nofile_limit(u64::MAX);
    let limit = match raised {
        Ok(limit) => limit,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            present_limit()?
        }
    };
    tracing::info!("at most {limit} files can be open; every connection is one");
    Some(limit)
}

#[cfg(unix)]
fn present_limit() -> Option<u64> {
    let (soft, _hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).ok()?;
    Some(soft)
}

/// The limit to which [`raise_limit`] can raise; `None` where there is none.
#[cfg(unix)]
pub(super) fn hard_limit() -> Option<u64> {
    let (_soft, hard) = rlimit::getrlimit(rlimit::Resource::NOFILE).ok()?;
    (hard != rlimit::INFINITY).then_some(hard)
}

/// Handles of sockets are not limited there.
#[cfg(not(unix))]
pub(super) fn hard_limit() -> Option<u64> {
    None
}

/// Handles of sockets are not limited there.
#[cfg(not(unix))]
fn present_limit() -> Option<u64> {
    None
}

/// Logs a warning whenever nine tenths of the limit are in use.
pub(super) async fn watch(limit: u64) {
    let mut is_warned = false;
    loop {
        let counted = tokio::task::spawn_blocking(count_open).await;
        // Counting needs a file descriptor itself: if it fails, they are all in use.
        let open = counted.ok().flatten().unwrap_or(limit);
        let is_near = open >= limit / 10 * 9;
        if is_near && !is_warned {
            tracing::warn!(
                "{open} of {limit} file descriptors in use; raise the limit (ulimit -n) or new connections will be refused"
            );
        }
        is_warned = is_near;
        sleep(INTERVAL).await;
    }
}

/// How many file descriptors are open; `None` if the folder that lists them cannot be opened. Systems without that
/// folder are never warned about.
fn count_open() -> Option<u64> {
    match std::fs::read_dir("/dev/fd") {
        Ok(open) => Some(open.count() as u64),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(0),
        Err(_) => None,
    }
}
