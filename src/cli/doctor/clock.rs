//! Whether the clock of another machine is that of this one.

use jiff::Timestamp;

use super::finding::Finding;

/// How far two clocks may be apart, in seconds. Servers name their time in whole seconds, and an answer takes a while.
const MAX_OFFSET: i64 = 5;

/// Compares the clock of `check` with the time here, while it was read.
pub(super) fn check(check: String, there: Timestamp, here: Timestamp) -> Finding {
    let offset = there.duration_since(here).as_secs();
    if offset.abs() <= MAX_OFFSET {
        return Finding::ok(
            check,
            format!("its clock is that of this machine, within {MAX_OFFSET} s"),
        );
    }
    let (distance, side) = if offset > 0 {
        (offset, "ahead of")
    } else {
        (-offset, "behind")
    };
    Finding::warn(
        check,
        format!("its clock is {distance} s {side} that of this machine"),
        "set the clocks of all machines by one source (NTP): the times of a job are those of several",
    )
}
