//! Memory that many connections at once have needed, and nobody needs any more.

use std::time::Duration;

use tokio::time::sleep;

use super::state::ServerState;

/// After how many connections it is worth a look. The handshake of each needs some 12 KB.
const MANY: u64 = 100;

/// Many that come within this time come at once: what they need is needed for the next ones.
const SETTLING: Duration = Duration::from_secs(1);

/// Gives back to the system what is free, whenever many connections have been served. The allocator
/// would keep it for the next ones, which may never come.
pub(super) async fn trim_memory(state: ServerState) {
    let mut served = state.served.subscribe();
    let mut given_back_at = 0;
    let settled = async {
        while served
            .wait_for(|served| *served >= given_back_at + MANY)
            .await
            .is_ok()
        {
            loop {
                let before = *served.borrow();
                sleep(SETTLING).await;
                given_back_at = *served.borrow();
                if given_back_at < before + MANY {
                    break;
                }
            }
            state.tasks.spawn_blocking(trim);
        }
    };
    tokio::select! {
        () = state.stop.cancelled() => {}
        () = settled => {}
    }
}

/// Only glibc has to be told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "a call into the C library, which no crate wraps"
)]
fn trim() {
    // SAFETY: it may be called at any time by any thread, and touches only what is free.
    unsafe { libc::malloc_trim(0) };
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
