//! [`Learned`]: what the relay's own estimator knows in a run. It begins with nothing.

use comfy_relay::estimate::{CostModel, Estimate, Familiarity};
use comfy_relay::job::{Job, Plan};
use comfy_relay::placement::{BackendLoad, Kind, Runtime};

use crate::sim_job::SimJob;
use crate::sim_server::{SimServer, at};
use crate::workflow::Workflow;

/// How many jobs a server has at once: one runs, one is ready.
pub(crate) const DEPTH: usize = 2;

/// The cost model of a run, and what it says at the moment.
#[derive(Debug)]
pub(crate) struct Learned {
    model: CostModel,
    /// By workflow.
    pub(crate) kinds: Vec<Kind>,
}

impl Learned {
    pub(crate) fn new(workflows: &[Workflow], servers: &[SimServer]) -> Self {
        let mut learned = Self {
            model: CostModel::default(),
            kinds: Vec::new(),
        };
        learned.predict(workflows, servers);
        learned
    }

    /// Learns from a job that has ended.
    pub(crate) fn learn(&mut self, job: &Job, workflows: &[Workflow], servers: &[SimServer]) {
        self.model.learn(job);
        self.predict(workflows, servers);
    }

    /// Only what has run on a server counts there: of the rest, placement derives what it can.
    fn predict(&mut self, workflows: &[Workflow], servers: &[SimServer]) {
        let seconds = |server: &SimServer, plan: &Plan, cached: &[String]| {
            let familiarity = Familiarity::of_prompt(&server.name, plan, cached, &self.model);
            let estimate = Estimate::of_prompt(&server.name, plan, cached, &self.model);
            let known = estimate
                .remaining
                .filter(|_| familiarity == Familiarity::Known);
            known.unwrap_or(f64::NAN)
        };
        let kinds = workflows.iter().map(|workflow| {
            let loaders = workflow.loaders();
            let runtimes = servers.iter().map(|server| {
                Some(Runtime {
                    warm: seconds(server, &workflow.plan, &loaders),
                    cold: seconds(server, &workflow.plan, &[]),
                })
            });
            Kind {
                runtimes: runtimes.collect(),
                model: Some(workflow.model.key),
            }
        });
        self.kinds = kinds.collect();
    }

    /// What is known of a server when jobs are placed; `turn` is when it last got a job.
    pub(crate) fn load(
        &self,
        server: &SimServer,
        jobs: &[SimJob],
        workflows: &[Workflow],
        turn: u64,
        now: f64,
    ) -> BackendLoad {
        let kind = |job: usize| &self.kinds[jobs[job].workflow];
        let (mut free_in, mut model) = (0.0, None);
        if let Some(running) = &server.running {
            let estimate = Estimate::of(&running.job, &self.model, at(now));
            free_in = estimate.remaining.unwrap_or(f64::NAN);
            model = kind(running.index).model;
        }
        for ready in &server.ready {
            let kind = kind(*ready);
            let workflow = &workflows[jobs[*ready].workflow];
            let cached = if model == kind.model {
                workflow.loaders()
            } else {
                Vec::new()
            };
            let estimate = Estimate::of_prompt(&server.name, &workflow.plan, &cached, &self.model);
            free_in += estimate.remaining.unwrap_or(f64::NAN);
            model = kind.model;
        }
        BackendLoad {
            free_in,
            room: DEPTH.saturating_sub(server.count()),
            takes: true,
            model,
            turn,
        }
    }
}
