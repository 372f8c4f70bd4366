//! The tasks of a relay that follow a ComfyUI server: one reads its socket, one compares jobs with its queue and history.

use std::rc::Rc;
use std::time::Duration;

use super::comfy::PromptEvent;
use super::network::{Peer, Pipe};
use super::process::SimulatedRelay;
use crate::comfy::QueuePosition;
use crate::job::{Event, History, Outcome, Status};
use crate::relay::backend::decide::{Answers, Decision, Evidence, PromptAnswer, decide};

/// How long an answer of ComfyUI is waited for.
const COMFY_TIMEOUT: Duration = Duration::from_secs(10);

/// How long nothing comes over a socket before it is checked.
const PING_INTERVAL: Duration = Duration::from_secs(20);

const DIAL_PAUSE: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_secs(2);
const EVENT_GRACE: Duration = Duration::from_secs(1);
const HISTORY_GRACE: Duration = Duration::from_secs(5);

/// What a server answers about the prompt of a job.
type Found = (usize, PromptAnswer<QueuePosition>, Option<Outcome>);

impl SimulatedRelay {
    /// As task A: it follows the socket while it has the lease.
    pub(super) async fn follow(self: Rc<Self>, backend: usize) {
        let lease = &self.leases[backend];
        loop {
            if lease.lease.get().stands_by() {
                lease.changed.notified().await;
                continue;
            }
            self.follow_until_lost(backend).await;
            self.world.executor.clock.sleep(DIAL_PAUSE).await;
        }
    }

    async fn follow_until_lost(&self, backend: usize) {
        let peer = (self.name.0, Peer::Comfy(backend));
        let pipe: Rc<Pipe<PromptEvent>> = Pipe::new(&self.world, peer.0, peer.1);
        let (socket, lease) = (pipe.clone(), &self.leases[backend]);
        let dialling = self.world.call(peer, COMFY_TIMEOUT, move |world| {
            world.comfys[backend].borrow_mut().connect(&socket);
        });
        if dialling.await.is_none() {
            return;
        }
        lease.reconcile_now.notify_one();
        loop {
            let next = self
                .world
                .executor
                .clock
                .timeout(PING_INTERVAL, pipe.next());
            tokio::select! {
                biased;
                () = lease.changed.notified() => if lease.lease.get().stands_by() {
                    return;
                },
                next = next => match next {
                    Some(Some((job, event))) => {
                        let is_end = matches!(event, Event::Ended(_));
                        self.ingest(job, event);
                        if is_end {
                            lease.reconcile_now.notify_one();
                        }
                    }
                    Some(None) => return,
                    None => {
                        let ping = self.world.call(peer, COMFY_TIMEOUT, |_| ());
                        if ping.await.is_none() {
                            return;
                        }
                    }
                }
            }
        }
    }

    /// As task B.
    pub(super) async fn reconcile(self: Rc<Self>, backend: usize) {
        let lease = &self.leases[backend];
        loop {
            let clock = &self.world.executor.clock;
            clock
                .timeout(POLL_INTERVAL, lease.reconcile_now.notified())
                .await;
            let open = self.open_of(backend);
            if lease.lease.get().stands_by() || open.is_empty() {
                continue;
            }
            let peer = (self.name.0, Peer::Comfy(backend));
            let asking = self.world.call(peer, COMFY_TIMEOUT, move |world| {
                let comfy = world.comfys[backend].borrow();
                let find = |job: &usize| {
                    let (position, outcome) = comfy.find(*job);
                    (*job, position, outcome)
                };
                open.iter().map(find).collect::<Vec<Found>>()
            });
            for found in asking.await.into_iter().flatten() {
                self.compare(found);
            }
        }
    }

    fn compare(&self, (number, position, outcome): Found) {
        let mut answers = Answers::default();
        let event = loop {
            let Some(evidence) = self.evidence(number) else {
                return;
            };
            match decide(&evidence, &answers) {
                Decision::FetchQueue => answers.queue = position,
                Decision::FetchHistory => {
                    answers.history = match outcome {
                        Some(_) => PromptAnswer::Found(()),
                        None => PromptAnswer::Absent,
                    };
                }
                Decision::InQueue(QueuePosition::Running) => break Event::Started,
                Decision::InQueue(QueuePosition::Pending { ahead }) => {
                    break Event::Queued { ahead: Some(ahead) };
                }
                Decision::ApplyHistory { .. } => {
                    break Event::History(History {
                        messages: outcome,
                        produced: true,
                        ..History::default()
                    });
                }
                Decision::AwaitEvents => {
                    let now = self.world.executor.clock.now();
                    let mut jobs = self.jobs.borrow_mut();
                    let held = jobs.get_mut(&number);
                    held.map(|held| held.end_found_at.get_or_insert(now));
                    return;
                }
                Decision::AwaitEntry => {
                    let now = self.world.executor.clock.now();
                    let mut jobs = self.jobs.borrow_mut();
                    let held = jobs.get_mut(&number);
                    held.map(|held| held.missing_since.get_or_insert(now));
                    return;
                }
                Decision::Undecided => return,
                Decision::CheckRestart | Decision::Vanished(_) => {
                    let problem = format!("the prompt of job {number} is missed");
                    return self.world.report(problem);
                }
            }
        };
        self.ingest(number, event);
    }

    fn evidence(&self, number: usize) -> Option<Evidence> {
        let jobs = self.jobs.borrow();
        let held = jobs.get(&number)?;
        let now = self.world.executor.clock.now();
        let is_over = |since: Option<Duration>, limit| since.is_some_and(|it| now - it >= limit);
        Some(Evidence {
            is_queued: held.job.status() == Status::Queued,
            is_ending: held.job.is_ending(),
            own_client: true,
            is_grace_over: is_over(held.end_found_at, EVENT_GRACE),
            is_gap_over: is_over(held.missing_since, HISTORY_GRACE),
            ..Evidence::default()
        })
    }
}
