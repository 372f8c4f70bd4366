//! The steps that two relays take with one job, in every order.
//!
//! A step is one statement of the database, one event, or a fault: a lease that expires while its holder is paused, a cut
//! connection, an answer that is lost after the database has written, a kill.

use stateright::{Model, Property};

use super::model::{ModelRelay, ModelRow, ModelState, Source};
use crate::relay::ownership::{Ownership, StateVersion};

/// How many events the job has at most, its end included.
const MAX_EVENTS: u8 = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum ModelStep {
    TakeLease(usize),
    TakeOver(usize),
    ReadTaken(usize),
    Lapse(usize),
    Register(usize),
    Report(usize),
    Event { relay: usize, ends: bool },
    Write { relay: usize, is_answered: bool },
    ReadMoved(usize),
    Follow(usize),
    Receive(usize),
    Expire(usize),
    Cut(usize),
    Heal(usize),
    Kill(usize),
    Start(usize),
}

pub(super) struct Protocol {
    pub(super) source: Source,
    pub(super) max_faults: u8,
}

impl ModelStep {
    fn is_fault(self) -> bool {
        matches!(
            self,
            Self::Cut(_)
                | Self::Kill(_)
                | Self::Expire(_)
                | Self::Write {
                    is_answered: false,
                    ..
                }
        )
    }
}

/// What a relay asks of the database, whatever the source.
fn push_statements(process: &ModelRelay, relay: usize, steps: &mut Vec<ModelStep>) {
    steps.push(ModelStep::TakeOver(relay));
    if process.unwritten.is_some() {
        let answers = [true, false];
        steps.extend(answers.map(|is_answered| ModelStep::Write { relay, is_answered }));
    }
    if process.is_moved {
        steps.push(ModelStep::ReadMoved(relay));
    }
    let held = process.held;
    if held.is_none_or(|held| held.ownership != Ownership::Owner && !held.has_ended) {
        steps.push(ModelStep::Follow(relay));
    }
}

fn push_backend_steps(state: &ModelState, relay: usize, steps: &mut Vec<ModelStep>) {
    let process = &state.relays[relay];
    if process.is_reachable() {
        steps.extend([ModelStep::TakeLease(relay), ModelStep::ReadTaken(relay)]);
    }
    if process.has_lease && !process.is_linked {
        steps.push(ModelStep::Lapse(relay));
    }
    if process.follows && process.owns_open() && state.events < MAX_EVENTS {
        steps.extend([false, true].map(|ends| ModelStep::Event { relay, ends }));
    }
}

fn push_producer_steps(state: &ModelState, relay: usize, steps: &mut Vec<ModelStep>) {
    let process = &state.relays[relay];
    if process.is_reachable() {
        steps.push(ModelStep::Register(relay));
        if state.database.owner == Some(state.name(relay)) {
            steps.push(ModelStep::ReadTaken(relay));
        }
    }
    let is_known = process.is_linked || process.owns_open();
    if is_known && process.report.is_none() && state.events < MAX_EVENTS {
        steps.push(ModelStep::Report(relay));
    }
    let registers = process.report == Some(true) && process.held.is_none();
    if registers || process.report.is_some() && process.owns_open() {
        steps.extend([false, true].map(|ends| ModelStep::Event { relay, ends }));
    }
}

impl Model for Protocol {
    type State = ModelState;
    type Action = ModelStep;

    fn init_states(&self) -> Vec<ModelState> {
        let relay = ModelRelay::started();
        // The job was written once, by a relay that is gone; one of a producer may also be new.
        let written = ModelState {
            database: ModelRow::written(None, StateVersion { epoch: 0, seq: 1 }, false),
            relays: [relay.clone(), relay],
            events: 0,
            faults: 0,
        };
        let mut new = written.clone();
        new.database.exists = false;
        new.database.version.seq = 0;
        match self.source {
            Source::Backend => vec![written],
            Source::Producer => vec![written, new],
        }
    }

    fn actions(&self, state: &ModelState, steps: &mut Vec<ModelStep>) {
        for (relay, process) in state.relays.iter().enumerate() {
            if !process.is_up {
                steps.push(ModelStep::Start(relay));
                continue;
            }
            if process.is_reachable() {
                push_statements(process, relay, steps);
            }
            match self.source {
                Source::Backend => push_backend_steps(state, relay, steps),
                Source::Producer => push_producer_steps(state, relay, steps),
            }
            if state.news(relay).is_some() {
                steps.push(ModelStep::Receive(relay));
            }
            steps.push(if process.is_linked {
                ModelStep::Cut(relay)
            } else {
                ModelStep::Heal(relay)
            });
            steps.extend([ModelStep::Kill(relay), ModelStep::Expire(relay)]);
        }
        if state.faults >= self.max_faults {
            steps.retain(|step| !step.is_fault());
        }
    }

    fn next_state(&self, last: &ModelState, step: ModelStep) -> Option<ModelState> {
        let mut state = last.clone();
        state.faults += u8::from(step.is_fault());
        match step {
            ModelStep::TakeLease(relay) => state.take_lease(relay),
            ModelStep::Register(relay) => {
                state.database.registered[relay] = Some(state.name(relay));
            }
            ModelStep::TakeOver(relay) => state.take_over(self.source, relay),
            ModelStep::ReadTaken(relay) => {
                state.read_row(self.source, relay);
                let process = &mut state.relays[relay];
                process.follows = process.has_lease;
            }
            ModelStep::Lapse(relay) => state.relays[relay].give_up(),
            ModelStep::Report(relay) => state.begin_report(relay),
            ModelStep::Event { relay, ends } => match self.source {
                Source::Backend => {
                    state.events += 1;
                    state.relays[relay].publish(ends);
                }
                Source::Producer => state.relays[relay].apply_report(ends),
            },
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
                state.read_row(self.source, relay);
                state.relays[relay].is_moved = false;
            }
            ModelStep::Follow(relay) => state.read_row(self.source, relay),
            ModelStep::Receive(relay) => state.receive(relay),
            ModelStep::Expire(relay) => state.forget(relay),
            ModelStep::Cut(relay) => state.relays[relay].is_linked = false,
            ModelStep::Heal(relay) => state.relays[relay].is_linked = true,
            ModelStep::Kill(relay) => state.kill(relay),
            ModelStep::Start(relay) => {
                let process = &mut state.relays[relay];
                process.is_up = true;
                process.is_linked = true;
                process.incarnation += 1;
                state.database.registered[relay] = Some(state.name(relay));
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
            Property::sometimes(
                "an end that its owner could not write is written by another relay",
                |_, state: &ModelState| {
                    // The only event: the other relay has not learned of the end by itself.
                    let row = &state.database;
                    let is_last_word = |process: &ModelRelay| {
                        let shared = process.shared.filter(|_| !process.is_up);
                        shared
                            .is_some_and(|it| it.has_ended && it.version.epoch < row.version.epoch)
                    };
                    state.events == 1 && row.has_ended && state.relays.iter().any(is_last_word)
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
