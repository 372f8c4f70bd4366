//! Reports of producers that come over the broker. All relays receive them, and one applies each: the owner of the job, or for
//! a job that no relay has, the first in an order that all agree on. Who owns a job is the database's to say.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Relay;
use super::error::RelayError;
use crate::broker::{Broker, ReceivedReport};
use crate::job::JobId;

/// How long a relay has to register a job before the next one does. A relay that does not receive the report leaves it out.
const TURN: Duration = Duration::from_secs(2);

/// How long the database may take to say whose a job is.
const ROW_TIMEOUT: Duration = Duration::from_secs(2);

/// How often reports that wait are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How long a job that another relay has is not asked for again.
const ELSEWHERE_FOR: Duration = Duration::from_secs(5);

/// Of how many jobs it is remembered at most that another relay has them.
const MAX_ELSEWHERE: usize = 10_000;

/// How many jobs have a report that waits, at most.
const MAX_WAITING: usize = 1_000;

/// What is known of the jobs on which producers report.
#[derive(Debug, Default)]
struct ChannelReports {
    /// Reports that are applied later, if no other relay has their job by then.
    waiting: HashMap<JobId, WaitingReport>,
    /// Jobs of other relays, and until when that counts.
    elsewhere: HashMap<JobId, Instant>,
}

#[derive(Debug)]
struct WaitingReport {
    report: ReceivedReport,
    due: Instant,
}

/// Which relay a report is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addressee {
    /// This one.
    Us,
    /// The owner of its job, which has received it too.
    Owner,
    /// That cannot be said yet.
    Later(Duration),
}

impl Relay {
    /// Applies the reports that are for this relay until it stops.
    pub(super) async fn take_channel_reports(self) {
        let broker = &self.0.tracker.broker;
        let mut reports = ChannelReports::default();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let (taken, is_late) = tokio::select! {
                () = self.0.stop.cancelled() => return,
                received = broker.reported() => (reports.sort_out(received, broker), false),
                _ = look.tick() => (reports.due(), true),
            };
            let applying = taken
                .into_iter()
                .map(|report| self.take_report(report, is_late));
            for (report, addressee) in join_all(applying).await {
                match addressee {
                    Addressee::Us => {}
                    Addressee::Owner => reports.is_elsewhere(report.job),
                    Addressee::Later(pause) => {
                        let job = report.job.clone();
                        if !reports.wait(report, pause) {
                            broker.reject_report(&job, &"too many reports wait");
                        }
                    }
                }
            }
        }
    }

    /// Applies a report that is for this relay. Returns which one it is for.
    async fn take_report(
        &self,
        received: ReceivedReport,
        is_late: bool,
    ) -> (ReceivedReport, Addressee) {
        let addressee = self.addressee(&received.job, is_late).await;
        if addressee != Addressee::Us {
            return (received, addressee);
        }
        let (report, tags) = (received.report.clone(), received.tags.clone());
        match self.report(&received.job, report, tags).await {
            // A producer cannot be told to repeat it.
            Err(RelayError::Store(_)) => (received, Addressee::Later(TURN)),
            Err(error) => {
                let broker = &self.0.tracker.broker;
                broker.reject_report(&received.job, &error);
                (received, addressee)
            }
            Ok(()) => (received, addressee),
        }
    }

    async fn addressee(&self, job: &JobId, is_late: bool) -> Addressee {
        let tracker = &self.0.tracker;
        let is_owned = {
            let registry = tracker.registry();
            registry.get(job).is_some_and(|entry| entry.is_owned())
        };
        if is_owned || tracker.peers.is_alone(Instant::now()) {
            return Addressee::Us;
        }
        let store = tracker.recorder.store();
        let asking = async {
            let row = store.job(job).await?;
            Ok::<_, RelayError>((row, store.relays().await?))
        };
        let Ok(Ok((row, relays))) = timeout(ROW_TIMEOUT, asking).await else {
            return Addressee::Later(TURN);
        };
        let us = tracker.owner.as_str();
        match row.and_then(|row| row.owner) {
            Some(owner) if owner == us => return Addressee::Us,
            Some(owner) if relays.contains(&owner) => return Addressee::Owner,
            _ => {}
        }
        let place = place_of(us, job, &relays);
        if place == 0 || is_late {
            Addressee::Us
        } else {
            Addressee::Later(TURN * place)
        }
    }
}

impl ChannelReports {
    /// Those that are to be looked at now. A job whose report waits has the newest one in its place.
    fn sort_out(&mut self, received: Vec<ReceivedReport>, broker: &Broker) -> Vec<ReceivedReport> {
        let now = Instant::now();
        let mut taken = Vec::new();
        for report in received {
            if let Some(older) = self.waiting.get_mut(&report.job) {
                let job = report.job.clone();
                if !older.report.replace_by(report) {
                    broker.reject_report(&job, &"an end of the job waits");
                }
            } else if self
                .elsewhere
                .get(&report.job)
                .is_none_or(|until| *until <= now)
            {
                taken.push(report);
            }
        }
        taken
    }

    fn due(&mut self) -> Vec<ReceivedReport> {
        let now = Instant::now();
        let due = self.waiting.extract_if(|_, waiting| waiting.due <= now);
        due.map(|(_, waiting)| waiting.report).collect()
    }

    fn is_elsewhere(&mut self, job: JobId) {
        let now = Instant::now();
        if self.elsewhere.len() >= MAX_ELSEWHERE {
            self.elsewhere.retain(|_, until| *until > now);
        }
        if self.elsewhere.len() < MAX_ELSEWHERE {
            self.elsewhere.insert(job, now + ELSEWHERE_FOR);
        }
    }

    /// Has a report wait. Returns whether there is room.
    fn wait(&mut self, report: ReceivedReport, pause: Duration) -> bool {
        if self.waiting.len() >= MAX_WAITING {
            return false;
        }
        let due = Instant::now() + pause;
        let job = report.job.clone();
        self.waiting.insert(job, WaitingReport { report, due });
        true
    }
}

/// The place of a relay in the order in which relays register a job: another order for each job, the same at all relays.
fn place_of(us: &str, job: &JobId, relays: &[String]) -> u32 {
    let weight = |relay: &str| (weight(relay, job), relay.to_owned());
    let ours = weight(us);
    let before = relays.iter().filter(|relay| weight(relay) < ours);
    u32::try_from(before.count()).unwrap_or(u32::MAX)
}

/// FNV-1a, which is the same in all releases, with the last step of SplitMix64: the last bytes alone hardly change its upper bits.
fn weight(relay: &str, job: &JobId) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let bytes = relay.bytes().chain([0]).chain(job.as_str().bytes());
    let sum = bytes.fold(BASIS, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(PRIME)
    });
    let mixed = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_relays_agree_on_an_order_that_differs_from_job_to_job() {
        let relays: Vec<String> = ["one", "two", "three"].map(str::to_owned).to_vec();
        let mut first = [0; 3];
        for number in 0..300 {
            let job = JobId::parse(&format!("job-{number}")).unwrap();
            let mut places: Vec<u32> = (relays.iter())
                .map(|relay| place_of(relay, &job, &relays))
                .collect();
            first[places.iter().position(|place| *place == 0).unwrap()] += 1;
            places.sort_unstable();
            assert_eq!(places, [0, 1, 2]);
        }
        assert!(first.iter().all(|count| *count > 50), "{first:?}");
    }
}
