//! Two relays, one database and one job, of a backend or of a producer: what they hold, and what each step does to it.

use crate::relay::ownership::{HeldState, Ownership, RowDecision, RowState, StateVersion};

/// How far the number of a state jumps where a job is restored: more than the states that were not written.
const JUMP: u64 = 10;

/// A relay's process: a restarted one has another name.
pub(super) type Name = (usize, u8);

/// Where the events of the job come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A backend, which the holder of its lease follows.
    Backend,
    /// A producer, which reports to either relay.
    Producer,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ModelRow {
    /// Whether the job is in the database.
    pub(super) exists: bool,
    pub(super) owner: Option<Name>,
    pub(super) version: StateVersion,
    pub(super) has_ended: bool,
    /// The relay that holds the backend's lease.
    pub(super) lease: Option<Name>,
    /// The relays that are known to run.
    pub(super) registered: [Option<Name>; 2],
    /// What went wrong, for the properties.
    pub(super) went_back: bool,
    pub(super) wrote_unowned: bool,
    pub(super) ends: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ModelRelay {
    pub(super) is_up: bool,
    pub(super) incarnation: u8,
    pub(super) is_linked: bool,
    /// The database has given it the lease.
    pub(super) has_lease: bool,
    /// It follows the backend: it has the lease, and has read the row since.
    pub(super) follows: bool,
    pub(super) held: Option<HeldState>,
    /// The newest state that is not known to be written.
    pub(super) unwritten: Option<Write>,
    /// The newest state that it has published over the broker, which keeps it.
    pub(super) shared: Option<Write>,
    /// The row is known to be newer than a state that was to be written.
    pub(super) is_moved: bool,
    /// A report has come, and is not applied yet: `true` if neither memory nor the database knew the job.
    pub(super) report: Option<bool>,
    pub(super) ends_published: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Write {
    pub(super) version: StateVersion,
    pub(super) has_ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ModelState {
    pub(super) database: ModelRow,
    pub(super) relays: [ModelRelay; 2],
    pub(super) events: u8,
    pub(super) faults: u8,
}

/// Whether the database writes a state over a row, as the statement of `store/statements.rs` says it.
pub(super) fn accepts(row: &ModelRow, writer: Name, write: Write) -> bool {
    if !row.exists {
        return true;
    }
    let keeps_end = !row.has_ended || write.has_ended;
    let is_newer = write.version.epoch > row.version.epoch
        || write.version.epoch == row.version.epoch
            && row.owner.is_none_or(|owner| owner == writer)
            && write.version.seq >= row.version.seq;
    keeps_end && is_newer
}

impl ModelRow {
    /// A row that exists.
    pub(super) fn written(owner: Option<Name>, version: StateVersion, has_ended: bool) -> Self {
        Self {
            exists: true,
            owner,
            version,
            has_ended,
            lease: None,
            registered: [0, 1].map(|relay| Some((relay, 0))),
            went_back: false,
            wrote_unowned: false,
            ends: 0,
        }
    }
}

impl ModelState {
    pub(super) fn name(&self, relay: usize) -> Name {
        (relay, self.relays[relay].incarnation)
    }

    pub(super) fn read_row(&mut self, source: Source, relay: usize) {
        let name = self.name(relay);
        let row = &self.database;
        if !row.exists {
            return;
        }
        let process = &mut self.relays[relay];
        let may_publish = source == Source::Producer || process.has_lease;
        let seen = RowState {
            is_ours: may_publish && row.owner == Some(name),
            version: row.version,
            has_ended: row.has_ended,
        };
        match seen.meet(process.held) {
            RowDecision::Keep(ownership) => {
                let held = process.held.as_mut().expect("it is kept");
                let is_back = held.ownership != ownership && ownership == Ownership::Owner;
                held.ownership = ownership;
                if is_back {
                    process.publish(false);
                }
            }
            RowDecision::Restore => {
                let seen = process.held.map_or(0, |held| held.version.seq);
                process.held = Some(HeldState {
                    ownership: Ownership::Owner,
                    version: StateVersion {
                        epoch: row.version.epoch,
                        seq: seen.max(row.version.seq + JUMP),
                    },
                    has_ended: false,
                });
                process.publish(false);
            }
            RowDecision::Follow => {
                let is_news = process.held.is_none_or(|held| !held.has_ended);
                process.ends_published += u8::from(is_news && row.has_ended);
                process.held = Some(HeldState {
                    ownership: Ownership::Reader,
                    version: row.version,
                    has_ended: row.has_ended,
                });
            }
            RowDecision::Record => {
                let held = process.held.as_mut().expect("it has the end");
                let is_before_others = held.version.is_end_before_others(row.version.epoch);
                let jump = if is_before_others { JUMP } else { 0 };
                held.ownership = Ownership::Owner;
                held.version.epoch = row.version.epoch;
                held.version.seq = held.version.seq.max(row.version.seq + jump);
                process.unwritten = Some(Write {
                    version: held.version,
                    has_ended: true,
                });
            }
        }
    }

    /// What a relay would receive over the broker that the other one has published.
    pub(super) fn news(&self, relay: usize) -> Option<Write> {
        let news = self.relays[1 - relay].shared?;
        let is_news = news.version.is_news_of_owner(self.relays[relay].held);
        is_news.then_some(news)
    }

    pub(super) fn receive(&mut self, relay: usize) {
        let Some(news) = self.news(relay) else {
            return;
        };
        let process = &mut self.relays[relay];
        process.ends_published += u8::from(news.has_ended);
        process.held = Some(HeldState {
            ownership: Ownership::Reader,
            version: news.version,
            has_ended: news.has_ended,
        });
    }

    pub(super) fn write(&mut self, relay: usize, write: Write) -> bool {
        let name = self.name(relay);
        let row = &mut self.database;
        if !accepts(row, name, write) {
            return false;
        }
        row.wrote_unowned |= row.exists && row.owner != Some(name);
        row.went_back |= write.version < row.version || row.has_ended && !write.has_ended;
        row.ends += u8::from(write.has_ended && !row.has_ended);
        row.owner = Some(name);
        row.exists = true;
        row.version = write.version;
        row.has_ended = write.has_ended;
        true
    }

    pub(super) fn take_lease(&mut self, relay: usize) {
        let name = self.name(relay);
        if self.database.lease.is_none_or(|holder| holder == name) {
            self.database.lease = Some(name);
            self.relays[relay].has_lease = true;
        } else {
            self.relays[relay].give_up();
        }
    }

    /// Takes the job over if it is free.
    pub(super) fn take_over(&mut self, source: Source, relay: usize) {
        let name = self.name(relay);
        let row = &self.database;
        let is_free = match source {
            Source::Backend => row.lease == Some(name),
            Source::Producer => {
                let runs = |owner| row.registered.contains(&Some(owner));
                runs(name) && !row.owner.is_some_and(runs)
            }
        };
        if is_free {
            self.own(name);
        }
    }

    fn own(&mut self, name: Name) {
        let row = &mut self.database;
        if row.exists && row.owner != Some(name) && !row.has_ended {
            row.owner = Some(name);
            row.version.epoch += 1;
        }
    }

    /// A report comes. The relay takes the job, whoever has it; where the database does not answer, memory decides.
    pub(super) fn begin_report(&mut self, relay: usize) {
        self.events += 1;
        let is_new = self.relays[relay].held.is_none() && !self.database.exists;
        if self.relays[relay].is_linked {
            self.own(self.name(relay));
        }
        self.relays[relay].report = Some(is_new);
    }

    /// The time of a relay is over, as the database counts it.
    pub(super) fn forget(&mut self, relay: usize) {
        let name = self.name(relay);
        if self.database.lease == Some(name) {
            self.database.lease = None;
        }
        self.database.registered[relay] = None;
    }

    /// Its process is known to be dead.
    pub(super) fn kill(&mut self, relay: usize) {
        self.forget(relay);
        let process = &mut self.relays[relay];
        *process = ModelRelay {
            is_up: false,
            incarnation: process.incarnation,
            shared: process.shared,
            ..ModelRelay::started()
        };
    }
}

impl ModelRelay {
    pub(super) fn started() -> Self {
        Self {
            is_up: true,
            incarnation: 0,
            is_linked: true,
            has_lease: false,
            follows: false,
            held: None,
            unwritten: None,
            shared: None,
            is_moved: false,
            report: None,
            ends_published: 0,
        }
    }

    /// Publishes and records the next state.
    pub(super) fn publish(&mut self, ends: bool) {
        let held = self.held.as_mut().expect("it is in memory");
        held.version.seq += 1;
        held.has_ended |= ends;
        self.ends_published += u8::from(ends);
        if held.ownership == Ownership::Owner {
            let write = Write {
                version: held.version,
                has_ended: held.has_ended,
            };
            self.unwritten = Some(write);
            self.shared = Some(write);
        }
    }

    pub(super) fn give_up(&mut self) {
        self.has_lease = false;
        self.follows = false;
        if let Some(held) = self.held.as_mut()
            && held.ownership == Ownership::Owner
            && !held.has_ended
        {
            held.ownership = Ownership::FormerOwner;
        }
    }

    /// A report is applied to the job, which it may register.
    pub(super) fn apply_report(&mut self, ends: bool) {
        self.report = None;
        self.held.get_or_insert(HeldState {
            ownership: Ownership::Owner,
            version: StateVersion { epoch: 0, seq: 0 },
            has_ended: false,
        });
        self.publish(ends);
    }

    pub(super) fn owns_open(&self) -> bool {
        let held = self.held;
        held.is_some_and(|held| held.ownership == Ownership::Owner && !held.has_ended)
    }

    pub(super) fn is_reachable(&self) -> bool {
        self.is_up && self.is_linked
    }
}
