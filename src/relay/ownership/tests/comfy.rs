//! A ComfyUI server: it runs its prompts one after another, and sends their events to the socket that was opened last.

use std::rc::{Rc, Weak};
use std::time::Duration;

use rand::RngExt;

use super::cluster::World;
use super::network::Pipe;
use crate::comfy::QueuePosition;
use crate::job::{Event, JobError, Outcome, Status};
use crate::relay::backend::decide::PromptAnswer;

/// An event of the prompt of a job.
pub(super) type PromptEvent = (usize, Event);

#[derive(Default)]
pub(super) struct Comfy {
    prompts: Vec<Prompt>,
    socket: Weak<Pipe<PromptEvent>>,
}

struct Prompt {
    job: usize,
    is_running: bool,
    outcome: Option<Outcome>,
}

impl Comfy {
    pub(super) fn connect(&mut self, socket: &Rc<Pipe<PromptEvent>>) {
        self.socket = Rc::downgrade(socket);
    }

    pub(super) fn submit(&mut self, job: usize) {
        self.prompts.push(Prompt {
            job,
            is_running: false,
            outcome: None,
        });
    }

    /// Where a prompt is in the queue, and how it ended.
    pub(super) fn find(&self, job: usize) -> (PromptAnswer<QueuePosition>, Option<Outcome>) {
        let open = || {
            self.prompts
                .iter()
                .filter(|prompt| prompt.outcome.is_none())
        };
        let position = open().position(|prompt| prompt.job == job);
        let is_running = open().any(|prompt| prompt.job == job && prompt.is_running);
        let position = match position {
            None => PromptAnswer::Absent,
            Some(_) if is_running => PromptAnswer::Found(QueuePosition::Running),
            Some(ahead) => PromptAnswer::Found(QueuePosition::Pending { ahead }),
        };
        (position, self.outcome(job).cloned())
    }

    fn outcome(&self, job: usize) -> Option<&Outcome> {
        let mut prompts = self.prompts.iter();
        prompts.find(|prompt| prompt.job == job)?.outcome.as_ref()
    }

    /// The final status of a job, once its prompt has ended.
    pub(super) fn end(&self, job: usize) -> Option<Status> {
        self.outcome(job).map(|outcome| match outcome {
            Outcome::Completed => Status::Completed,
            Outcome::Failed(_) => Status::Failed,
            Outcome::Cancelled => Status::Cancelled,
        })
    }

    fn send(&self, job: usize, event: Event) {
        if let Some(socket) = self.socket.upgrade() {
            socket.send((job, event));
        }
    }
}

impl World {
    /// Runs the prompts of a server.
    pub(super) async fn run_prompts(self: Rc<Self>, backend: usize) {
        let pause = |most: u64| {
            let pause = self.rng.borrow_mut().random_range(1..=most);
            self.executor.clock.sleep(Duration::from_millis(pause))
        };
        let comfy = &self.comfys[backend];
        loop {
            pause(500).await;
            let job = {
                let mut comfy = comfy.borrow_mut();
                let mut prompts = comfy.prompts.iter_mut();
                let next = prompts.find(|prompt| prompt.outcome.is_none());
                let job = next.map(|prompt| {
                    prompt.is_running = true;
                    prompt.job
                });
                job.inspect(|job| comfy.send(*job, Event::Started))
            };
            let Some(job) = job else {
                continue;
            };
            let steps = self.rng.borrow_mut().random_range(2..=8_u8);
            for step in 1..=steps {
                pause(2_000).await;
                let (node, value, max) = (Some("3".to_owned()), f64::from(step), f64::from(steps));
                comfy.borrow().send(job, Event::Bar { node, value, max });
            }
            pause(200).await;
            let outcome = match self.rng.borrow_mut().random_range(0..4) {
                0 => Outcome::Failed(JobError::reported(None)),
                1 => Outcome::Cancelled,
                _ => Outcome::Completed,
            };
            let mut comfy = comfy.borrow_mut();
            comfy.send(job, Event::Ended(outcome.clone()));
            let mut prompts = comfy.prompts.iter_mut();
            if let Some(prompt) = prompts.find(|prompt| prompt.job == job) {
                prompt.outcome = Some(outcome);
            }
        }
    }
}
