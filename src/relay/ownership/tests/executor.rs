//! Runs the tasks of the simulation, one step at a time and always in the same order. A process can be frozen or killed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use super::clock::Clock;
use super::model::Name;

type TaskFuture = Pin<Box<dyn Future<Output = ()>>>;

#[derive(Default)]
pub(super) struct Executor {
    pub(super) clock: Clock,
    tasks: RefCell<BTreeMap<u64, SimulatedTask>>,
    spawned: Cell<u64>,
    ready: Arc<ReadyTasks>,
    frozen: RefCell<BTreeSet<Name>>,
    /// Tasks of frozen processes that would go on.
    parked: RefCell<Vec<u64>>,
}

struct SimulatedTask {
    /// `None` of the world around the relays.
    process: Option<Name>,
    waker: Waker,
    /// `None` while it runs.
    future: Option<TaskFuture>,
}

#[derive(Default)]
struct ReadyTasks(Mutex<VecDeque<u64>>);

struct TaskWaker {
    id: u64,
    ready: Arc<ReadyTasks>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.push(self.id);
    }
}

impl ReadyTasks {
    fn push(&self, id: u64) {
        let mut ready = self.0.lock().unwrap();
        if !ready.contains(&id) {
            ready.push_back(id);
        }
    }

    fn pop(&self) -> Option<u64> {
        self.0.lock().unwrap().pop_front()
    }
}

impl Executor {
    pub(super) fn spawn(&self, process: Option<Name>, future: impl Future<Output = ()> + 'static) {
        let id = self.spawned.get();
        self.spawned.set(id + 1);
        let ready = self.ready.clone();
        let task = SimulatedTask {
            process,
            waker: Arc::new(TaskWaker { id, ready }).into(),
            future: Some(Box::pin(future)),
        };
        self.tasks.borrow_mut().insert(id, task);
        self.ready.push(id);
    }

    /// Runs until this moment.
    pub(super) fn run_until(&self, moment: Duration) {
        loop {
            while let Some(id) = self.ready.pop() {
                self.poll(id);
            }
            if !self.clock.jump(moment) {
                return;
            }
        }
    }

    fn poll(&self, id: u64) {
        let (mut future, waker) = {
            let mut tasks = self.tasks.borrow_mut();
            let Some(task) = tasks.get_mut(&id) else {
                return;
            };
            let frozen = self.frozen.borrow();
            if task.process.is_some_and(|name| frozen.contains(&name)) {
                return self.parked.borrow_mut().push(id);
            }
            let Some(future) = task.future.take() else {
                return;
            };
            (future, task.waker.clone())
        };
        let is_done = future
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready();
        let mut tasks = self.tasks.borrow_mut();
        if is_done {
            tasks.remove(&id);
        } else if let Some(task) = tasks.get_mut(&id) {
            task.future = Some(future);
        }
    }

    pub(super) fn freeze(&self, name: Name) {
        self.frozen.borrow_mut().insert(name);
    }

    pub(super) fn thaw(&self, name: Name) {
        if self.frozen.borrow_mut().remove(&name) {
            let parked = std::mem::take(&mut *self.parked.borrow_mut());
            parked.into_iter().for_each(|id| self.ready.push(id));
        }
    }

    /// Ends the tasks of a process; all tasks for `None`.
    pub(super) fn kill(&self, name: Option<Name>) {
        let is_killed = |task: &SimulatedTask| name.is_none() || task.process == name;
        let killed: Vec<SimulatedTask> = {
            let mut tasks = self.tasks.borrow_mut();
            let killed = tasks.extract_if(.., |_, task| is_killed(task));
            killed.map(|(_, task)| task).collect()
        };
        // Not under the lock: what they hold may reach for it.
        drop(killed);
    }
}
