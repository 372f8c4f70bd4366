//! The rules of ownership, explored exhaustively: two relays, one database, one job of one backend.
//!
//! A step is one statement of the database, one event, or a fault: a lease that expires while its holder is paused, a cut
//! connection, an answer that is lost after the database has written, a kill. They come in every order.

use std::sync::Arc;

use jiff::Timestamp;
use stateright::{Checker, HasDiscoveries, Model, Property};

use super::{HeldState, Ownership, RowDecision, RowState, StateVersion};
use crate::config::StoreConfig;
use crate::job::{Job, JobId};
use crate::relay::stored_job;
use crate::store::{LeaseOwner, Store};

/// How many events the job has at most, its end included.
const MAX_EVENTS: u8 = 2;

/// How many faults there are at most. `MODEL_FAULTS` sets another number.
const MAX_FAULTS: u8 = 2;

/// How far the number of a state jumps where a job is restored: more than the states that were not written.
const JUMP: u64 = 10;

/// A relay's process: a restarted one has another name.
type Name = (usize, u8);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ModelRow {
    owner: Option<Name>,
    version: StateVersion,
    has_ended: bool,
    lease: Option<Name>,
    /// What went wrong, for the properties.
    went_back: bool,
    wrote_unowned: bool,
    ends: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ModelRelay {
    is_up: bool,
    incarnation: u8,
    is_linked: bool,
    /// The database has given it the lease.
    has_lease: bool,
    /// It follows the backend: it has the lease, and has read the row since.
    follows: bool,
    held: Option<HeldState>,
    /// The newest state that is not known to be written.
    unwritten: Option<Write>,
    /// The row is known to be newer than a state that was to be written.
    is_moved: bool,
    ends_published: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Write {
    version: StateVersion,
    has_ended: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ModelState {
    database: ModelRow,
    relays: [ModelRelay; 2],
    events: u8,
    faults: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ModelStep {
    TakeLease(usize),
    TakeOver(usize),
    ReadTaken(usize),
    Lapse(usize),
    Event { relay: usize, ends: bool },
    Write { relay: usize, is_answered: bool },
    ReadMoved(usize),
    Follow(usize),
    Expire,
    Cut(usize),
    Heal(usize),
    Kill(usize),
    Start(usize),
}

struct Protocol {
    max_faults: u8,
}

/// Whether the database writes a state over a row, as the statement of `store/statements.rs` says it.
fn accepts(row: &ModelRow, writer: Name, write: Write) -> bool {
    let keeps_end = !row.has_ended || write.has_ended;
    let is_newer = write.version.epoch > row.version.epoch
        || write.version.epoch == row.version.epoch
            && row.owner.is_none_or(|owner| owner == writer)
            && write.version.seq >= row.version.seq;
    keeps_end && is_newer
}

impl ModelState {
    fn name(&self, relay: usize) -> Name {
        (relay, self.relays[relay].incarnation)
    }

    fn read_row(&mut self, relay: usize) {
        let name = self.name(relay);
        let row = &self.database;
        let process = &mut self.relays[relay];
        let seen = RowState {
            is_ours: process.has_lease && row.owner == Some(name),
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
                process.held = Some(HeldState {
                    ownership: Ownership::Owner,
                    version: StateVersion {
                        epoch: row.version.epoch,
                        seq: row.version.seq + JUMP,
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
        }
    }

    fn write(&mut self, relay: usize, write: Write) -> bool {
        let name = self.name(relay);
        let row = &mut self.database;
        if !accepts(row, name, write) {
            return false;
        }
        row.wrote_unowned |= row.owner != Some(name);
        row.went_back |= write.version < row.version || row.has_ended && !write.has_ended;
        row.ends += u8::from(write.has_ended && !row.has_ended);
        row.version = write.version;
        row.has_ended = write.has_ended;
        true
    }
}

impl ModelRelay {
    /// Publishes and records the next state.
    fn publish(&mut self, ends: bool) {
        let held = self.held.as_mut().expect("it is in memory");
        held.version.seq += 1;
        held.has_ended |= ends;
        self.ends_published += u8::from(ends);
        if held.ownership == Ownership::Owner {
            self.unwritten = Some(Write {
                version: held.version,
                has_ended: held.has_ended,
            });
        }
    }

    fn give_up(&mut self) {
        self.has_lease = false;
        self.follows = false;
        if let Some(held) = self.held.as_mut()
            && held.ownership == Ownership::Owner
            && !held.has_ended
        {
            held.ownership = Ownership::FormerOwner;
        }
    }

    fn is_reachable(&self) -> bool {
        self.is_up && self.is_linked
    }
}

impl Model for Protocol {
    type State = ModelState;
    type Action = ModelStep;

    fn init_states(&self) -> Vec<ModelState> {
        let relay = ModelRelay {
            is_up: true,
            incarnation: 0,
            is_linked: true,
            has_lease: false,
            follows: false,
            held: None,
            unwritten: None,
            is_moved: false,
            ends_published: 0,
        };
        vec![ModelState {
            // The job was written once, by a relay that is gone.
            database: ModelRow {
                owner: None,
                version: StateVersion { epoch: 0, seq: 1 },
                has_ended: false,
                lease: None,
                went_back: false,
                wrote_unowned: false,
                ends: 0,
            },
            relays: [relay.clone(), relay],
            events: 0,
            faults: 0,
        }]
    }

    fn actions(&self, state: &ModelState, steps: &mut Vec<ModelStep>) {
        let may_fail = state.faults < self.max_faults;
        for (relay, process) in state.relays.iter().enumerate() {
            if !process.is_up {
                steps.push(ModelStep::Start(relay));
                continue;
            }
            let held = process.held;
            if process.is_reachable() {
                steps.extend([
                    ModelStep::TakeLease(relay),
                    ModelStep::TakeOver(relay),
                    ModelStep::ReadTaken(relay),
                ]);
                if process.unwritten.is_some() {
                    steps.push(ModelStep::Write {
                        relay,
                        is_answered: true,
                    });
                }
                if process.unwritten.is_some() && may_fail {
                    steps.push(ModelStep::Write {
                        relay,
                        is_answered: false,
                    });
                }
                if process.is_moved {
                    steps.push(ModelStep::ReadMoved(relay));
                }
                if held.is_none_or(|held| held.ownership != Ownership::Owner && !held.has_ended) {
                    steps.push(ModelStep::Follow(relay));
                }
            }
            if process.has_lease && !process.is_linked {
                steps.push(ModelStep::Lapse(relay));
            }
            let is_open =
                held.is_some_and(|held| held.ownership == Ownership::Owner && !held.has_ended);
            if process.follows && is_open && state.events < MAX_EVENTS {
                steps.extend([false, true].map(|ends| ModelStep::Event { relay, ends }));
            }
            steps.push(if process.is_linked {
                ModelStep::Cut(relay)
            } else {
                ModelStep::Heal(relay)
            });
            steps.push(ModelStep::Kill(relay));
        }
        steps.push(ModelStep::Expire);
        if !may_fail {
            steps.retain(|step| {
                !matches!(
                    step,
                    ModelStep::Cut(_) | ModelStep::Kill(_) | ModelStep::Expire
                )
            });
        }
    }

    fn next_state(&self, last: &ModelState, step: ModelStep) -> Option<ModelState> {
        let mut state = last.clone();
        state.faults += u8::from(matches!(
            step,
            ModelStep::Cut(_)
                | ModelStep::Kill(_)
                | ModelStep::Expire
                | ModelStep::Write {
                    is_answered: false,
                    ..
                }
        ));
        match step {
            ModelStep::TakeLease(relay) => {
                let name = state.name(relay);
                if state.database.lease.is_none_or(|holder| holder == name) {
                    state.database.lease = Some(name);
                    state.relays[relay].has_lease = true;
                } else {
                    state.relays[relay].give_up();
                }
            }
            ModelStep::TakeOver(relay) => {
                let name = state.name(relay);
                let row = &mut state.database;
                if row.lease == Some(name) && row.owner != Some(name) && !row.has_ended {
                    row.owner = Some(name);
                    row.version.epoch += 1;
                }
            }
            ModelStep::ReadTaken(relay) => {
                state.read_row(relay);
                let process = &mut state.relays[relay];
                process.follows = process.has_lease;
            }
            ModelStep::Lapse(relay) => state.relays[relay].give_up(),
            ModelStep::Event { relay, ends } => {
                state.events += 1;
                state.relays[relay].publish(ends);
            }
            ModelStep::Write { relay, is_answered } => {
                let write = state.relays[relay].unwritten?;
                let is_written = state.write(relay, write);
                if is_answered {
                    let process = &mut state.relays[relay];
                    process.unwritten = None;
                    process.is_moved |= !is_written;
                }
            }
            ModelStep::ReadMoved(relay) => {
                state.read_row(relay);
                state.relays[relay].is_moved = false;
            }
            ModelStep::Follow(relay) => state.read_row(relay),
            ModelStep::Expire => state.database.lease = None,
            ModelStep::Cut(relay) => state.relays[relay].is_linked = false,
            ModelStep::Heal(relay) => state.relays[relay].is_linked = true,
            ModelStep::Kill(relay) => {
                let process = &mut state.relays[relay];
                process.give_up();
                process.is_up = false;
                process.held = None;
                process.unwritten = None;
                process.is_moved = false;
                process.ends_published = 0;
                if state.database.lease == Some(state.name(relay)) {
                    // Its process is known to be dead.
                    state.database.lease = None;
                }
            }
            ModelStep::Start(relay) => {
                let process = &mut state.relays[relay];
                process.is_up = true;
                process.is_linked = true;
                process.incarnation += 1;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("the row never goes back", |_, state: &ModelState| {
                !state.database.went_back
            }),
            Property::always("only the owner writes", |_, state: &ModelState| {
                !state.database.wrote_unowned
            }),
            Property::always("the row ends once", |_, state: &ModelState| {
                state.database.ends <= 1
            }),
            Property::always(
                "each relay publishes the end once",
                |_, state: &ModelState| {
                    state
                        .relays
                        .iter()
                        .all(|process| process.ends_published <= 1)
                },
            ),
            Property::sometimes("a job ends at the second owner", |_, state: &ModelState| {
                state.database.has_ended && state.database.version.epoch > 1
            }),
            Property::sometimes("both relays show the end", |_, state: &ModelState| {
                let ended = |process: &ModelRelay| process.held.is_some_and(|held| held.has_ended);
                state.relays.iter().all(ended)
            }),
        ]
    }
}

#[test]
fn the_rules_of_ownership_hold_in_every_order_of_steps_and_faults() {
    let max_faults = std::env::var("MODEL_FAULTS");
    let max_faults = max_faults.map_or(MAX_FAULTS, |faults| faults.parse().unwrap());
    let checker = Protocol { max_faults }
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AllFailures)
        .spawn_bfs()
        .join();
    println!(
        "{} states, {} steps deep, with {max_faults} faults",
        checker.unique_state_count(),
        checker.max_depth()
    );
    // A broken rule panics with its trace.
    checker.assert_properties();
}

/// The statement of the database decides as the model does.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_accepts_what_the_model_accepts() {
    let store = Store::open(&StoreConfig::default());
    store.migrate().await.unwrap();
    let owners = [(0, 0), (1, 0)].map(|name| (name, Arc::new(LeaseOwner::new())));
    let now = Timestamp::now();
    let mut number = 0;
    let record = |id: &JobId, owner: &Arc<LeaseOwner>, write: Write| {
        let mut job = Job::new(id.clone(), now);
        let mut progress = job.publish(0.5, None, now);
        progress.seq = write.version.seq;
        if write.has_ended {
            progress.status = crate::job::Status::Completed;
        }
        stored_job::record(&job, None, progress, (owner, write.version.epoch))
    };
    let writes: Vec<Write> = [(1, 1), (1, 2), (2, 1), (2, 2)]
        .into_iter()
        .flat_map(|(epoch, seq)| {
            let version = StateVersion { epoch, seq };
            [false, true].map(|has_ended| Write { version, has_ended })
        })
        .collect();
    for before in &writes {
        for after in &writes {
            for (writer, owner) in &owners {
                number += 1;
                let id = JobId::parse(&format!("job-{number}")).unwrap();
                let first = record(&id, &owners[0].1, *before);
                assert_eq!(store.upsert(&[first]).await.unwrap(), []);
                let row = ModelRow {
                    owner: Some(owners[0].0),
                    version: before.version,
                    has_ended: before.has_ended,
                    lease: None,
                    went_back: false,
                    wrote_unowned: false,
                    ends: 0,
                };
                let moved = store.upsert(&[record(&id, owner, *after)]).await.unwrap();
                let is_accepted = moved.is_empty();
                assert_eq!(
                    is_accepted,
                    accepts(&row, *writer, *after),
                    "{after:?} of {writer:?} over {row:?}"
                );
            }
        }
    }
}
