//! Durations as texts.

/// A duration in the units that people use.
pub(super) fn duration(seconds: u64) -> String {
    match (seconds / 3_600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_shown_in_hours_minutes_and_seconds() {
        let texts: Vec<String> = [7, 61, 7_322].into_iter().map(duration).collect();
        assert_eq!(texts, ["7 s", "1 min 01 s", "2 h 02 min"]);
    }
}
