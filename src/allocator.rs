//! The allocator of the program. It keeps small things together, so that what stays of an ended job, or of an idle
//! subscriber, does not hold the pages of the large things that were around it. `cargo bench --bench load -- remembered idle leave`
//! measures what it is for.

use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Free memory goes back to the system after one second instead of ten: connections come in bursts, and the handshake of each
/// needs some 12 KB. One arena for each processor instead of four: each keeps free pages of its own. The allocator reads this text, which ends with a zero, before `main`; options in the environment
/// variable `MALLOC_CONF` take precedence.
#[expect(unsafe_code, reason = "the allocator finds its options by this name")]
#[unsafe(export_name = "malloc_conf")]
static OPTIONS: &[u8] = b"narenas_ratio:1,dirty_decay_ms:1000,muzzy_decay_ms:0\0";
