//! Three relays, two ComfyUI servers, a database and a Redis server: a run that a seed determines, with its faults.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::Instant;

use super::comfy::Comfy;
use super::database::SimulatedDatabase;
use super::executor::Executor;
use super::faults::LONGEST_FAULT;
use super::model::Name;
use super::network::{Network, Peer};
use super::process::SimulatedRelay;
use super::redis::Redis;
use crate::job::{JobId, Status};

pub(super) const RELAYS: usize = 3;
pub(super) const BACKENDS: usize = 2;
pub(super) const JOBS: usize = 4;

/// How long a relay holds a lease that it does not renew.
pub(super) const LEASE: Duration = Duration::from_secs(9);

/// How long there are faults.
const FAULTS_LAST: Duration = Duration::from_secs(30);

/// How long after the last fault every row and every subscriber has its end at the latest.
const HEALING_LASTS: Duration = Duration::from_secs(45);

/// How long it is looked for an end too many.
const REST: Duration = Duration::from_secs(3);

pub(super) struct World {
    pub(super) executor: Executor,
    pub(super) rng: RefCell<StdRng>,
    pub(super) network: Network,
    pub(super) database: RefCell<SimulatedDatabase>,
    pub(super) redis: RefCell<Redis>,
    pub(super) comfys: [RefCell<Comfy>; BACKENDS],
    pub(super) relays: [RefCell<Option<Rc<SimulatedRelay>>>; RELAYS],
    incarnations: [Cell<u8>; RELAYS],
    /// How often each job was registered as a new one.
    pub(super) registrations: [Cell<u8>; JOBS],
    /// A relay sees that one that was killed is dead: they run on one machine.
    is_one_machine: bool,
    clock_base: Instant,
    problems: RefCell<Vec<String>>,
}

pub(super) fn job_id(number: usize) -> JobId {
    JobId::parse(&format!("job-{number}")).unwrap()
}

pub(super) fn job_number(id: &JobId) -> usize {
    id.as_str()["job-".len()..].parse().unwrap()
}

/// The server that has the prompt of a job.
pub(super) fn backend_of(job: usize) -> usize {
    job % BACKENDS
}

impl World {
    fn new(seed: u64) -> Rc<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        Rc::new(Self {
            executor: Executor::default(),
            is_one_machine: rng.random_bool(0.3),
            rng: RefCell::new(rng),
            network: Network::default(),
            database: RefCell::default(),
            redis: RefCell::default(),
            comfys: Default::default(),
            relays: Default::default(),
            incarnations: Default::default(),
            registrations: Default::default(),
            clock_base: Instant::now(),
            problems: RefCell::default(),
        })
    }

    /// The time of jobs.
    pub(super) fn now(&self) -> Timestamp {
        let since = SignedDuration::try_from(self.executor.clock.now()).unwrap();
        Timestamp::UNIX_EPOCH.checked_add(since).unwrap()
    }

    /// The time of leases.
    pub(super) fn instant(&self) -> Instant {
        self.clock_base + self.executor.clock.now()
    }

    pub(super) fn since_start(&self, moment: Instant) -> Duration {
        moment - self.clock_base
    }

    /// How a job has ended at its server.
    pub(super) fn true_end(&self, job: usize) -> Option<Status> {
        self.comfys[backend_of(job)].borrow().end(job)
    }

    /// Records that something is wrong.
    pub(super) fn report(&self, problem: String) {
        let now = self.executor.clock.now();
        self.problems
            .borrow_mut()
            .push(format!("{now:?}: {problem}"));
    }

    pub(super) fn draw(&self, below: u64) -> u64 {
        self.rng.borrow_mut().random_range(0..below)
    }

    pub(super) async fn pause(&self, most_ms: u64) {
        let pause = Duration::from_millis(self.draw(most_ms));
        self.executor.clock.sleep(pause).await;
    }

    pub(super) fn running(&self, relay: usize) -> Option<Rc<SimulatedRelay>> {
        self.relays[relay].borrow().clone()
    }

    pub(super) fn start(self: &Rc<Self>, relay: usize) {
        if self.running(relay).is_some() {
            return;
        }
        let name: Name = (relay, self.incarnations[relay].get());
        let process = Rc::new(SimulatedRelay::new(self, name));
        let spawn = |task| self.executor.spawn(Some(name), task);
        for backend in 0..BACKENDS {
            spawn(boxed(process.clone().keep_lease(backend)));
            spawn(boxed(process.clone().follow(backend)));
            spawn(boxed(process.clone().reconcile(backend)));
        }
        spawn(boxed(process.clone().write()));
        spawn(boxed(process.clone().read_moved()));
        spawn(boxed(process.clone().follow_rows()));
        spawn(boxed(process.clone().share()));
        spawn(boxed(process.clone().receive()));
        spawn(boxed(process.clone().follow_states()));
        spawn(boxed(process.clone().deliver()));
        spawn(boxed(self.clone().visit(process.clone())));
        self.relays[relay].replace(Some(process));
    }

    pub(super) fn kill(&self, relay: usize) {
        let Some(process) = self.relays[relay].take() else {
            return;
        };
        self.executor.thaw(process.name);
        self.executor.kill(Some(process.name));
        let peers = [Peer::Database, Peer::Redis, Peer::Comfy(0), Peer::Comfy(1)];
        for peer in peers {
            self.network.link(relay, peer).reset();
        }
        if self.is_one_machine {
            self.database.borrow_mut().dead.insert(process.name);
        }
        let incarnation = &self.incarnations[relay];
        incarnation.set(incarnation.get() + 1);
    }

    /// The rows and the subscribers that have not got the end of their job.
    fn missing_ends(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for job in 0..JOBS {
            let end = self.true_end(job);
            let rows = &self.database.borrow().rows;
            let row = rows.get(&job).map(|row| (row.status, row.epoch, row.seq));
            if end.is_none() || row.map(|row| row.0) != end {
                missing.push(format!("the row of job {job} is {row:?}, its end {end:?}"));
            }
            let running = (0..RELAYS).filter_map(|relay| self.running(relay));
            for process in running {
                let subscribers = process.subscribers.borrow();
                let mut of_job = subscribers.iter().filter(|it| it.job == job);
                if !of_job.any(|it| it.end.is_some()) {
                    let seen = subscribers.iter().filter(|it| it.job == job);
                    let seen: Vec<u64> = seen.map(|it| it.last_seq).collect();
                    let held = process.jobs.borrow().get(&job).map(|it| it.held());
                    missing.push(format!(
                        "the subscriber of job {job} at {:?} has seen {seen:?}, memory is {held:?}, the row {row:?}",
                        process.name
                    ));
                }
            }
        }
        missing
    }
}

fn boxed(task: impl Future<Output = ()> + 'static) -> std::pin::Pin<Box<dyn Future<Output = ()>>> {
    Box::pin(task)
}

/// Runs the cluster. Returns what was wrong.
pub(super) fn run(seed: u64) -> Vec<String> {
    let world = World::new(seed);
    let (executor, clock) = (&world.executor, world.executor.clock.clone());
    for relay in 0..RELAYS {
        world.start(relay);
    }
    for backend in 0..BACKENDS {
        executor.spawn(None, world.clone().run_prompts(backend));
    }
    for job in 0..JOBS {
        executor.spawn(None, world.clone().submit(job));
    }
    let (faults, until) = (world.clone().make_faults(), clock.clone());
    executor.spawn(None, async move {
        until.timeout(FAULTS_LAST, faults).await;
    });
    let last = FAULTS_LAST + LONGEST_FAULT;
    executor.run_until(last);
    while clock.now() < last + HEALING_LASTS && !world.missing_ends().is_empty() {
        executor.run_until(clock.now() + Duration::from_secs(1));
    }
    executor.run_until(clock.now() + REST);
    let mut problems = world.problems.take();
    problems.append(&mut world.database.borrow_mut().problems);
    problems.append(&mut world.missing_ends());
    executor.kill(None);
    world.relays.iter().for_each(|relay| drop(relay.take()));
    problems
}
