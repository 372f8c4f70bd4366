//! How durations are read from settings.

use std::time::Duration;

/// The longest duration of a setting: ten years. Deadlines much later than that overflow the system's clocks.
const MAX_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

/// A hundred years.
const MAX_DAYS: u64 = 36_500;

/// More publications of one job than this would flood its subscribers.
const MAX_RATE: u32 = 1_000;

/// Reads a whole number of seconds, at least one.
pub(super) fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("expected a whole number of seconds, at least 1".to_owned()),
        Ok(seconds) if seconds > MAX_SECONDS => Err(format!(
            "expected at most {MAX_SECONDS} seconds, which are ten years"
        )),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
    }
}

/// Reads a whole number of seconds, where zero means that there is no limit.
pub(super) fn parse_seconds_or_none(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0_u64) => Ok(Duration::ZERO),
        Ok(_) => parse_seconds(text),
        Err(_) => Err("expected a whole number of seconds, or 0 for no limit".to_owned()),
    }
}

/// The reverse of [`parse_seconds`], for defaults.
pub(super) fn seconds(duration: Duration) -> String {
    duration.as_secs().to_string()
}

/// Reads a whole number of days, at least one.
pub(super) fn parse_days(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(days @ 1..=MAX_DAYS) => Ok(Duration::from_secs(days * 86_400)),
        _ => Err(format!(
            "expected a whole number of days from 1 to {MAX_DAYS}"
        )),
    }
}

/// Reads a rate per second as the interval between two events; a rate of 0 (no limit) is an interval of zero.
pub(super) fn parse_rate(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0) => Ok(Duration::ZERO),
        Ok(rate @ 1..=MAX_RATE) => Ok(Duration::from_secs(1) / rate),
        _ => Err(format!("expected a whole number from 0 to {MAX_RATE}")),
    }
}

/// The reverse of [`parse_rate`], for defaults.
pub(super) fn rate(interval: Duration) -> String {
    if interval.is_zero() {
        return "0".to_owned();
    }
    format!("{:.0}", interval.as_secs_f64().recip())
}
