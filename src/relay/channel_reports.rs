//! Reports of producers that come over the broker. All relays receive them, and one applies each: the owner of the job, or for
//! a job that no relay has, the first in an order that all agree on. Who owns a job is the database's to say. An end comes once,
//! perhaps while the job changes its owner: every relay keeps it until the row has it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use super::Relay;
use super::error::RelayError;
use crate::broker::{Broker, ReceivedReport};
use crate::job::JobId;

/// How long a relay has to register a job before the next one does. A relay that does not receive the report leaves it out.
const TURN: Duration = Duration::from_secs(2);

/// How many turns the owner of a job has to apply an end, before the first of the others does.
const OWNER_TURNS: u32 = 2;

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

/// How many reports are applied at the same time.
const MAX_APPLYING: usize = 256;

/// How many of them may be of jobs that are not ours: a slow database holds these up, and leaves room for the others.
const MAX_FOREIGN: usize = 64;

/// What is known of the jobs on which producers report.
#[derive(Debug, Default)]
struct ChannelReports {
    /// Reports that are looked at later, if no other relay has applied them by then.
    waiting: HashMap<JobId, PendingReport>,
    /// The jobs of which one is being applied: the next one waits, so that none overtakes it.
    applying: HashSet<JobId>,
    /// How many of these are of jobs that are not ours.
    foreign: usize,
    /// Jobs of other relays, and until when that counts.
    elsewhere: HashMap<JobId, Instant>,
}

#[derive(Debug)]
struct PendingReport {
    report: ReceivedReport,
    due: Instant,
    /// The job was ours when this was begun.
    is_ours: bool,
    /// The relays that register the job before us have had their turns.
    is_our_turn: bool,
    /// How many turns the owner of the job has had to apply this end.
    owner_turns: u32,
}

/// Which relay a report is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Addressee {
    /// This one.
    Us,
    /// The owner of its job, which has received it too, or has applied it.
    Owner,
    /// That cannot be said yet.
    Later(Duration),
}

impl Relay {
    /// Applies the reports that are for this relay until it stops. What it has begun it finishes: the job may be ours already.
    pub(super) async fn take_channel_reports(self) {
        let broker = &self.0.tracker.broker;
        let mut reports = ChannelReports::default();
        let mut applying = FuturesUnordered::new();
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let taken = tokio::select! {
                () = self.0.stop.cancelled() => break,
                Some((pending, addressee)) = applying.next() => {
                    let next = reports.done(pending, addressee, broker);
                    next.into_iter().collect()
                }
                received = broker.reported(), if applying.len() < MAX_APPLYING => {
                    reports.sort_out(received, |job| self.owns(job), broker)
                }
                _ = look.tick() => reports.due(),
            };
            for mut pending in taken {
                pending.is_ours = self.owns(&pending.report.job);
                if let Some(pending) = reports.begin(pending, broker) {
                    applying.push(self.take_report(pending));
                }
            }
        }
        while applying.next().await.is_some() {}
    }

    fn owns(&self, job: &JobId) -> bool {
        let registry = self.0.tracker.registry();
        registry.get(job).is_some_and(|entry| entry.is_owned())
    }

    /// Applies a report that is for this relay. Returns which one it is for.
    async fn take_report(&self, mut pending: PendingReport) -> (PendingReport, Addressee) {
        let addressee = self.addressee(&mut pending).await;
        if addressee != Addressee::Us {
            return (pending, addressee);
        }
        let received = &pending.report;
        let (report, tags) = (received.report.clone(), received.tags.clone());
        match self.report(&received.job, report, tags).await {
            // A producer gets no answer, and cannot be asked to repeat it. The database has failed for all relays: they take turns again.
            Err(RelayError::Store(_)) => {
                pending.is_our_turn = false;
                return (pending, Addressee::Later(TURN));
            }
            Err(error) => {
                let broker = &self.0.tracker.broker;
                broker.reject_report(&received.job, &error);
            }
            Ok(()) => {}
        }
        (pending, addressee)
    }

    async fn addressee(&self, pending: &mut PendingReport) -> Addressee {
        let tracker = &self.0.tracker;
        let ReceivedReport { job, report, .. } = &pending.report;
        if self.owns(job) || tracker.peers.is_alone(Instant::now()) {
            return Addressee::Us;
        }
        let store = tracker.recorder.store();
        let asking = async {
            let row = store.job(job).await?;
            Ok::<_, RelayError>((row, store.relays().await?))
        };
        let Ok(Ok((row, mut relays))) = timeout(ROW_TIMEOUT, asking).await else {
            pending.is_our_turn = false;
            return Addressee::Later(TURN);
        };
        let us = tracker.owner.as_str();
        if let Some(row) = row
            && let Some(owner) = row.owner
        {
            if owner == us {
                return Addressee::Us;
            }
            if relays.contains(&owner) {
                let has_it = row.status.is_final() || row.prompt_id.is_some();
                if has_it || !report.status.is_final() {
                    return Addressee::Owner;
                }
                // The owner may be stopping, or dead and not missed yet, or receive no reports.
                relays.retain(|relay| *relay != owner);
                if pending.owner_turns >= OWNER_TURNS + place_of(us, job, &relays) {
                    return Addressee::Us;
                }
                pending.owner_turns += 1;
                return Addressee::Later(TURN);
            }
        }
        let place = place_of(us, job, &relays);
        if place == 0 || pending.is_our_turn {
            Addressee::Us
        } else {
            pending.is_our_turn = true;
            Addressee::Later(TURN * place)
        }
    }
}

impl PendingReport {
    fn new(report: ReceivedReport) -> Self {
        Self {
            report,
            due: Instant::now(),
            is_ours: false,
            is_our_turn: false,
            owner_turns: 0,
        }
    }
}

impl ChannelReports {
    /// Those that are to be looked at now. A job whose report waits has the newest one in its place, and one whose report is
    /// being applied has the next one wait.
    fn sort_out(
        &mut self,
        received: Vec<ReceivedReport>,
        is_ours: impl Fn(&JobId) -> bool,
        broker: &Broker,
    ) -> Vec<PendingReport> {
        let now = Instant::now();
        let mut taken = Vec::new();
        for report in received {
            let job = &report.job;
            let is_elsewhere = self.elsewhere.get(job).is_some_and(|until| *until > now);
            if self.waiting.contains_key(job) || self.applying.contains(job) {
                self.wait(PendingReport::new(report), broker);
            } else if !is_elsewhere || report.is_final() || is_ours(job) {
                taken.push(PendingReport::new(report));
            }
        }
        taken
    }

    /// Those that have waited long enough.
    fn due(&mut self) -> Vec<PendingReport> {
        let now = Instant::now();
        let applying = &self.applying;
        let is_due = |job: &JobId, pending: &mut PendingReport| {
            pending.due <= now && !applying.contains(job)
        };
        let due = self.waiting.extract_if(is_due);
        due.map(|(_, pending)| pending).collect()
    }

    /// Returns a report that is to be applied now, or has it wait for room.
    fn begin(&mut self, pending: PendingReport, broker: &Broker) -> Option<PendingReport> {
        if !pending.is_ours && self.foreign >= MAX_FOREIGN {
            self.wait(pending, broker);
            return None;
        }
        self.foreign += usize::from(!pending.is_ours);
        self.applying.insert(pending.report.job.clone());
        Some(pending)
    }

    /// Records what has become of a report. Returns the next one of its job, if that is to be looked at now.
    fn done(
        &mut self,
        pending: PendingReport,
        addressee: Addressee,
        broker: &Broker,
    ) -> Option<PendingReport> {
        let job = pending.report.job.clone();
        self.applying.remove(&job);
        self.foreign -= usize::from(!pending.is_ours);
        match addressee {
            Addressee::Us => {}
            Addressee::Owner => self.is_elsewhere(job.clone()),
            Addressee::Later(pause) => {
                let due = Instant::now() + pause;
                let later = self.waiting.remove(&job);
                self.wait(PendingReport { due, ..pending }, broker);
                if let Some(later) = later {
                    self.wait(later, broker);
                }
            }
        }
        let is_due = |next: &PendingReport| next.due <= Instant::now();
        if self.waiting.get(&job).is_some_and(is_due) {
            self.waiting.remove(&job)
        } else {
            None
        }
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

    /// Has a report wait, in place of an older one of its job. Where there is no room, an end takes that of another report.
    fn wait(&mut self, pending: PendingReport, broker: &Broker) {
        let job = pending.report.job.clone();
        if let Some(older) = self.waiting.get_mut(&job) {
            if !older.report.replace_by(pending.report) {
                broker.reject_report(&job, &"an end of the job waits");
            }
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            let mut others = self.waiting.iter();
            let other =
                others.find(|(_, other)| pending.report.is_final() && !other.report.is_final());
            let rejected = other.map_or_else(|| job.clone(), |(other, _)| other.clone());
            broker.reject_report(&rejected, &"too many reports wait");
            if rejected == job {
                return;
            }
            self.waiting.remove(&rejected);
        }
        self.waiting.insert(job, pending);
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
    use crate::job::{NewReport, Status};

    fn report(job: &str, status: &str) -> ReceivedReport {
        let body = format!(r#"{{"progress": 1, "status": "{status}"}}"#);
        let (report, tags) = NewReport::read(body.as_bytes()).unwrap().check().unwrap();
        let job = JobId::parse(job).unwrap();
        ReceivedReport { job, report, tags }
    }

    #[test]
    fn the_next_report_of_a_job_waits_for_the_last_one_and_those_of_other_jobs_do_not() {
        let mut reports = ChannelReports::default();
        let taken = |reports: &mut ChannelReports, received| {
            let sorted = reports.sort_out(received, |_| false, &Broker::Alone);
            let begun = sorted.into_iter();
            let begun = begun.filter_map(|pending| reports.begin(pending, &Broker::Alone));
            begun.collect::<Vec<_>>()
        };
        let first = taken(&mut reports, vec![report("a", "queued")]).remove(0);
        assert!(taken(&mut reports, vec![report("a", "processing")]).is_empty());
        assert!(taken(&mut reports, vec![report("a", "completed")]).is_empty());
        assert!(reports.due().is_empty());
        assert_eq!(taken(&mut reports, vec![report("b", "queued")]).len(), 1);
        let next = reports.done(first, Addressee::Us, &Broker::Alone).unwrap();
        assert_eq!(next.report.report.status, Status::Completed);

        // Of a job that another relay has, the end is looked at again, and what comes before it is not.
        let next = reports.begin(next, &Broker::Alone).unwrap();
        reports.done(next, Addressee::Owner, &Broker::Alone);
        assert!(taken(&mut reports, vec![report("a", "processing")]).is_empty());
        assert_eq!(taken(&mut reports, vec![report("a", "completed")]).len(), 1);
        assert_eq!((reports.foreign, reports.waiting.len()), (2, 0));
    }

    #[test]
    fn an_end_takes_the_room_of_another_report() {
        let mut reports = ChannelReports::default();
        for number in 0..MAX_WAITING {
            let pending = PendingReport::new(report(&format!("job-{number}"), "processing"));
            reports.wait(pending, &Broker::Alone);
        }
        for (job, status) in [("late", "processing"), ("end", "failed")] {
            reports.wait(PendingReport::new(report(job, status)), &Broker::Alone);
        }
        let waits = |job: &str| reports.waiting.contains_key(&JobId::parse(job).unwrap());
        assert_eq!((waits("late"), waits("end")), (false, true));
        assert_eq!(reports.waiting.len(), MAX_WAITING);
    }

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
