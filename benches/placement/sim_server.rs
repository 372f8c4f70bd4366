//! [`SimServer`]: a server of a run, which runs one job after another.

use std::collections::VecDeque;

use comfy_relay::job::{Event, History, Job, JobId, Outcome};
use jiff::{SignedDuration, Timestamp};

use crate::sim_job::SimJob;
use crate::workflow::Workflow;

/// A moment of a run.
pub(crate) fn at(seconds: f64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_secs_f64(seconds)
}

/// A server that runs its jobs one after another, and keeps the model of the last one loaded.
#[derive(Debug)]
pub(crate) struct SimServer {
    pub(crate) name: String,
    speed: f64,
    loaded: Option<u64>,
    pub(crate) running: Option<Running>,
    /// The indices of the jobs that it has and does not run yet.
    pub(crate) ready: VecDeque<usize>,
}

/// A job that runs, and what is still to happen to it, with the moments.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) index: usize,
    pub(crate) job: Job,
    events: VecDeque<(f64, Event)>,
}

impl SimServer {
    pub(crate) fn new(index: usize, speed: f64) -> Self {
        Self {
            name: format!("gpu{index}:8188"),
            speed,
            loaded: None,
            running: None,
            ready: VecDeque::new(),
        }
    }

    /// How many jobs it has.
    pub(crate) fn count(&self) -> usize {
        self.ready.len() + usize::from(self.running.is_some())
    }

    /// Begins the next job if none runs.
    pub(crate) fn begin(&mut self, jobs: &[SimJob], workflows: &[Workflow], now: f64) {
        if self.running.is_some() {
            return;
        }
        let Some(index) = self.ready.pop_front() else {
            return;
        };
        let workflow = &workflows[jobs[index].workflow];
        let is_warm = self.loaded == Some(workflow.model.key);
        let id = JobId::parse(&index.to_string()).expect("a valid id");
        let mut job = Job::new(id, at(now)).on_backend(&self.name, &index.to_string());
        job.apply(Event::Planned(workflow.plan.clone()), at(now));
        job.apply(Event::Started, at(now));
        if is_warm {
            let nodes = workflow.loaders();
            job.apply(Event::Cached { nodes }, at(now));
        }
        let pace = jobs[index].factor / self.speed;
        self.loaded = Some(workflow.model.key);
        self.running = Some(Running {
            index,
            job,
            events: events(workflow, is_warm, pace, now),
        });
    }

    /// When its next event happens.
    pub(crate) fn next_event(&self) -> Option<f64> {
        let running = self.running.as_ref()?;
        running.events.front().map(|(at, _)| *at)
    }

    /// Lets the events happen up to a moment. Returns the job if it ends there, and its index.
    pub(crate) fn advance(&mut self, now: f64) -> Option<(usize, Job)> {
        let running = self.running.as_mut()?;
        while running.events.front().is_some_and(|(t, _)| *t <= now) {
            if let Some((t, event)) = running.events.pop_front() {
                running.job.apply(event, at(t));
            }
        }
        if !running.events.is_empty() {
            return None;
        }
        let running = self.running.take()?;
        Some((running.index, running.job))
    }
}

/// What the server sends while it runs a job: each node, and each step of a bar.
fn events(workflow: &Workflow, is_warm: bool, pace: f64, now: f64) -> VecDeque<(f64, Event)> {
    let mut events = VecDeque::new();
    let mut time = now;
    for node in &workflow.nodes {
        if is_warm && node.is_loader {
            continue;
        }
        let started = Event::NodeStarted {
            node: node.id.clone(),
            display: None,
        };
        events.push_back((time, started));
        let seconds = node.seconds * pace;
        for step in 1..=node.steps {
            let share = f64::from(step) / f64::from(node.steps);
            let bar = Event::Bar {
                node: Some(node.id.clone()),
                value: f64::from(step),
                max: f64::from(node.steps),
            };
            events.push_back((time + share * seconds, bar));
        }
        time += seconds;
    }
    events.push_back((time, Event::Ended(Outcome::Completed)));
    let history = History {
        messages: Some(Outcome::Completed),
        ..History::default()
    };
    events.push_back((time, Event::History(history)));
    events
}
