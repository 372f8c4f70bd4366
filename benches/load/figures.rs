//! [`Figures`]: the results of a round, and the table of them.

use std::time::Duration;

/// The results of one round with one server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures {
    /// Subscribers a second, from the first connect to the last first state.
    pub(crate) connects: f64,
    /// Bytes by which the process has grown for each subscriber.
    pub(crate) memory: Option<f64>,
    /// Microseconds of the server's CPU time for each state that arrived.
    pub(crate) cpu: Option<f64>,
    /// The same of the client and the publisher. If it is not less than the server's, they are the
    /// bottleneck.
    pub(crate) client_cpu: Option<f64>,
    /// States that arrived a second.
    pub(crate) rate: Option<f64>,
    /// Milliseconds from the post of a state to its arrival: median and 99th percentile.
    pub(crate) latency: Option<(f64, f64)>,
    /// The longest of them.
    pub(crate) longest: Option<f64>,
    pub(crate) lost: u64,
    pub(crate) out_of_order: u64,
    /// Subscribers that received the final state once and then the close, and all subscribers.
    pub(crate) finals: Option<(u64, u64)>,
}

impl Figures {
    /// The medians of several rounds; lost and misordered states are added up.
    pub(crate) fn median(rounds: &[Self]) -> Self {
        let some =
            |pick: fn(&Self) -> Option<f64>| median(rounds.iter().filter_map(pick).collect());
        let p50 = some(|round| round.latency.map(|(p50, _)| p50));
        let p99 = some(|round| round.latency.map(|(_, p99)| p99));
        let finals: Vec<(u64, u64)> = rounds.iter().filter_map(|round| round.finals).collect();
        let sum = |(a, b): (u64, u64), (c, d): &(u64, u64)| (a + c, b + d);
        Self {
            connects: some(|round| Some(round.connects)).unwrap_or_default(),
            memory: some(|round| round.memory),
            cpu: some(|round| round.cpu),
            client_cpu: some(|round| round.client_cpu),
            rate: some(|round| round.rate),
            latency: p50.zip(p99),
            longest: rounds
                .iter()
                .filter_map(|round| round.longest)
                .reduce(f64::max),
            lost: rounds.iter().map(|round| round.lost).sum(),
            out_of_order: rounds.iter().map(|round| round.out_of_order).sum(),
            finals: (!finals.is_empty()).then(|| finals.iter().fold((0, 0), sum)),
        }
    }

    /// Prints one line of the table.
    pub(crate) fn print(&self, scenario: &str, server: &str) {
        let number = |value: Option<f64>, digits: usize| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let finals = self.finals.map_or_else(
            || "-".to_owned(),
            |(arrived, due)| format!("{arrived}/{due}"),
        );
        println!(
            "{scenario:<22} {server:<6} {:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10} {:>13}",
            number(self.cpu, 2),
            number(self.client_cpu, 2),
            number(self.rate, 0),
            number(self.latency.map(|(p50, _)| p50), 1),
            number(self.latency.map(|(_, p99)| p99), 1),
            self.lost,
            self.out_of_order,
            number(self.memory, 0),
            number(Some(self.connects), 0),
            finals,
        );
    }
}

/// Prints the head of the table.
pub(crate) fn print_head() {
    println!(
        "{:<22} {:<6} {:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10} {:>13}",
        "", "", "CPU µs/", "client's", "", "latency", "ms", "", "out of", "bytes/", "", ""
    );
    println!(
        "{:<22} {:<6} {:>8} {:>8} {:>10} {:>8} {:>8} {:>8} {:>8} {:>10} {:>10} {:>13}",
        "scenario",
        "server",
        "delivery",
        "CPU",
        "delivery/s",
        "p50",
        "p99",
        "lost",
        "order",
        "subscriber",
        "connects/s",
        "finals"
    );
}

/// Prints the ratio of relay and floor, if both were measured.
pub(crate) fn print_ratio(what: &str, relay: Option<f64>, floor: Option<f64>) {
    if let (Some(relay), Some(floor)) = (relay, floor) {
        println!("{:<22} {what}: relay / floor = {:.2}", "", relay / floor);
    }
}

/// The median; of an even number of values the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

/// The longest of latencies in microseconds, in milliseconds.
pub(crate) fn longest(latencies: &[u32]) -> Option<f64> {
    latencies
        .iter()
        .max()
        .map(|&longest| f64::from(longest) / 1e3)
}

/// The median and the 99th percentile of latencies in microseconds, in milliseconds.
pub(crate) fn percentiles(latencies: &mut [u32]) -> Option<(f64, f64)> {
    latencies.sort_unstable();
    let at = |share: f64| {
        let place = (latencies.len().checked_sub(1)? as f64 * share) as usize;
        Some(f64::from(latencies[place]) / 1e3)
    };
    Some((at(0.5)?, at(0.99)?))
}

/// Microseconds for each of `count`.
pub(crate) fn micros_each(time: Duration, count: u64) -> Option<f64> {
    (count > 0).then(|| time.as_secs_f64() * 1e6 / count as f64)
}
