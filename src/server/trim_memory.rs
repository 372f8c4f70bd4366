//! Returns the memory of closed connections to the system.
//!
//! `cargo bench --bench load -- idle leave` measures what it is for: some 600 bytes are resident for an idle
//! subscriber, and 5 bytes for one that has left.

use std::time::Duration;

use tokio::time::sleep;

use super::state::ServerState;

/// After how many served connections memory is returned. The handshake of each needs some 12 KB.
const CONNECTIONS_PER_TRIM: u64 = 100;

/// As long as this many connections come within this time, the next ones reuse the memory.
const BURST: Duration = Duration::from_secs(1);

/// Returns free memory to the system after every burst of connections: glibc would keep it.
pub(super) async fn trim_memory(state: ServerState) {
    let mut served = state.served.subscribe();
    let mut trimmed_at = 0;
    let trimming = async {
        while served
            .wait_for(|served| *served >= trimmed_at + CONNECTIONS_PER_TRIM)
            .await
            .is_ok()
        {
            loop {
                let before = *served.borrow();
                sleep(BURST).await;
                trimmed_at = *served.borrow();
                if trimmed_at < before + CONNECTIONS_PER_TRIM {
                    break;
                }
            }
            state.tasks.spawn_blocking(trim);
        }
    };
    tokio::select! {
        () = state.stop.cancelled() => {}
        () = trimming => {}
    }
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(
    unsafe_code,
    reason = "a call into the C library, which no crate wraps"
)]
fn trim() {
    // SAFETY: any thread may call it at any time; it touches only memory that is free.
    unsafe { libc::malloc_trim(0) };
}

/// Other allocators return memory by themselves.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}
