//! How many files the program may have open: every connection is one.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::time::sleep;

/// How often they are counted.
const INTERVAL: Duration = Duration::from_secs(5);

/// Raises the limit to what the system allows at the most, and says what that is. `None` where nobody can
/// tell.
pub(super) fn raise_limit() -> Option<u64> {
    let (soft, hard) = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok(limits) => limits,
        Err(error) => {
            tracing::warn!(%error, "cannot tell how many files may be open");
            return None;
        }
    };
    let limit = match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
        Ok(()) => hard,
        Err(error) => {
            tracing::warn!(soft, hard, %error, "cannot raise the limit of open files");
            soft
        }
    };
    tracing::info!("{limit} files may be open, each connection is one");
    Some(limit)
}

/// Warns when most of the files that may be open are.
pub(super) async fn watch(limit: u64) {
    let mut is_told = false;
    loop {
        let counted = tokio::task::spawn_blocking(count_open).await;
        // Where no file can be opened any more, none can be counted.
        let open = counted.ok().flatten().unwrap_or(limit);
        let is_near = open >= limit / 10 * 9;
        if is_near && !is_told {
            tracing::warn!(
                open,
                limit,
                "soon no file can be opened and no connection be accepted; raise the limit (ulimit -n)"
            );
        }
        is_told = is_near;
        sleep(INTERVAL).await;
    }
}

/// `None` where the folder cannot be opened. Systems without it have no files open.
fn count_open() -> Option<u64> {
    match std::fs::read_dir("/dev/fd") {
        Ok(open) => Some(open.count() as u64),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Some(0),
        Err(_) => None,
    }
}
