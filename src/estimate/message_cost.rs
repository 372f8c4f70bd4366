/// What ComfyUI needs to write the state of one node into a message, in seconds, as assumed before there is
/// evidence: Python builds and encodes it, 200 bytes, in 5 µs on a common machine.
const PRIOR: f64 = 5e-6;

/// The most that it needs, in seconds.
const MAX: f64 = 2e-4;

/// The smallest job that shows something: in smaller ones the nodes' own times dominate.
const MIN_NODES: usize = 200;

/// How far one job moves the cost at least; the first ones move it to their mean.
const STEP: f64 = 0.5;

/// The least share of a node's time that is its own.
const MIN_OWN: f64 = 0.02;

/// The cost of the messages about the nodes of a job. Whenever a node begins or ends, ComfyUI sends the states of
/// all that have begun (`progress_state`), which takes `c` seconds for each of them: with `k` nodes before it,
/// `c·k` while a node runs, and as much until the next one begins. Of a few nodes this is nothing; of thousands it
/// is more than they do themselves.
#[derive(Debug, Clone, Copy)]
pub(super) struct MessageCost {
    seconds: f64,
    /// How many jobs have shown it.
    jobs: u32,
}

impl Default for MessageCost {
    fn default() -> Self {
        Self {
            seconds: PRIOR,
            jobs: 0,
        }
    }
}

impl MessageCost {
    /// No cost: of a server that does not send such messages.
    pub(super) const NONE: Self = Self {
        seconds: 0.0,
        jobs: 0,
    };

    /// Learns from the seconds of a job's nodes, in the order of their starts: `c` is by how much the last third
    /// takes longer than the first one, in the medians, which are two thirds of the nodes apart.
    pub(super) fn learn(&mut self, seconds: &[f64]) {
        let nodes = seconds.len();
        if nodes < MIN_NODES {
            return;
        }
        let third = nodes / 3;
        let first = median(&seconds[..third]);
        let last = median(&seconds[nodes - third..]);
        let shown = (last - first) / (nodes - third) as f64;
        self.jobs = self.jobs.saturating_add(1);
        let step = STEP.max(1.0 / f64::from(self.jobs));
        self.seconds += step * (shown.clamp(0.0, MAX) - self.seconds);
    }

    /// The seconds of a node itself, which began after so many others and took `seconds`.
    pub(super) fn own_seconds(self, seconds: f64, before: usize) -> f64 {
        (seconds - self.seconds * before as f64).max(MIN_OWN * seconds)
    }

    /// The seconds in which the messages about one of so many nodes are made while it runs, in the mean.
    pub(super) fn mean_while_running(self, begun: usize) -> f64 {
        self.seconds * begun as f64 / 2.0
    }

    /// The seconds of all messages about `waiting` nodes that begin one after another, after so many others.
    pub(super) fn of_waiting(self, waiting: usize, begun: usize) -> f64 {
        let (waiting, begun) = (waiting as f64, begun as f64);
        2.0 * self.seconds * (begun * waiting + waiting * waiting / 2.0)
    }
}

fn median(seconds: &[f64]) -> f64 {
    let mut seconds = seconds.to_vec();
    let middle = seconds.len() / 2;
    *seconds.select_nth_unstable_by(middle, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_is_learned_from_large_jobs_only() {
        let mut cost = MessageCost::default();
        cost.learn(&[1.0; MIN_NODES - 1]);
        assert_eq!(cost.seconds, PRIOR);
        // One node in ten does something.
        let seconds = |at: u32| {
            if at.is_multiple_of(10) {
                0.5
            } else {
                0.001 + 2e-5 * f64::from(at)
            }
        };
        let grows: Vec<f64> = (0..2_000).map(seconds).collect();
        cost.learn(&grows);
        assert!((cost.seconds - 2e-5).abs() < 1e-6, "{cost:?}");
        assert!((cost.own_seconds(0.041, 2_000) - 0.001).abs() < 1e-3);
        (0..40).for_each(|_| cost.learn(&[0.002; 2_000]));
        assert!(cost.seconds < 1e-9, "{cost:?}");
    }

    #[test]
    fn what_waits_adds_up_to_the_square_of_its_number() {
        let cost = MessageCost {
            seconds: 1e-5,
            jobs: 1,
        };
        assert!((cost.of_waiting(2_000, 0) - 40.0).abs() < 1e-9);
        let halves = cost.of_waiting(1_000, 0) + cost.of_waiting(1_000, 1_000);
        assert!((halves - 40.0).abs() < 1e-9);
    }
}
