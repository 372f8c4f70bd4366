//! The plans of the prompts in a queue, and how long they are predicted to take.

use std::collections::{HashMap, HashSet};

use crate::comfy::{Queue, QueueEntry};
use crate::estimate::Estimate;
use crate::job::{ImageFile, Plan, PlannedNode, Role};
use crate::relay::estimates::queue_forecast::{Lack, QueuePrediction, WaitingEstimate};

/// How many bytes of graphs one prediction reads: some 10 ms of work. A longer graph is read alone.
const MAX_READ: usize = 1 << 20;

/// How many plans are kept: workflows that differ, not prompts.
const MAX_PLANS: usize = 256;

/// How many nodes the kept plans have: at some 500 bytes a node, 25 MB.
const MAX_NODES: usize = 50_000;

/// Plans of prompts that have left the queue are kept up to this part of its length, so that the queue need not be gone
/// through for each that leaves it.
const GONE_SHARE: usize = 16;

/// How many nodes one prediction covers, each in about a microsecond.
const MAX_PREDICTED: usize = 20_000;

/// Identifies a plan.
type PlanId = u64;

/// How often a plan of a job, and the size of an image, has changed.
pub(in crate::relay) type PlanRevision = (u64, u64);

/// Where the plans of the prompts in a queue come from.
pub(in crate::relay) trait QueuedPlans {
    /// As long as this stays, so do all plans that are known.
    fn revision(&self) -> PlanRevision;

    /// The number of the plan that a job has of a prompt; `None` if no job has one.
    fn version(&self, prompt_id: &str) -> Option<u64>;

    /// The plan that a job has of a prompt.
    fn of_job(&self, prompt_id: &str) -> Option<Plan>;

    /// The entry of a prompt with its graph; `None` if that was not read.
    fn graph(&self, prompt_id: &str) -> Option<&QueueEntry>;

    /// Reads the plan of a prompt from its graph, and fetches the sizes of its images that are not known.
    /// Returns it with the files whose sizes are to come.
    fn read(&self, entry: &QueueEntry) -> (Plan, Vec<ImageFile>);

    /// Whether the size of one of these files has become known.
    fn knows_any(&self, files: &[ImageFile]) -> bool;
}

/// The plans of prompts, as long as they are in the queue. Prompts that differ only in what costs no
/// time, such as seeds, share one.
#[derive(Debug, Default)]
pub(in crate::relay) struct Plans {
    by_prompt: HashMap<String, QueuedPlan>,
    plans: HashMap<PlanId, Plan>,
    next_id: PlanId,
    /// When `by_prompt` was last compared with its source.
    revision: Option<PlanRevision>,
}

/// The plan of a prompt, and what it depends on.
#[derive(Debug)]
struct QueuedPlan {
    id: PlanId,
    /// The number of the plan that a job has.
    version: Option<u64>,
    /// The files whose sizes are to come.
    awaited: Vec<ImageFile>,
}

/// What one prediction has done and found out so far.
#[derive(Default)]
struct Pass {
    /// Nothing has changed of plans that were known before.
    is_current: bool,
    /// Bytes of graphs.
    read: usize,
    /// What was not known when it was needed.
    lack: Lack,
    /// Nodes.
    predicted: usize,
    /// By plan and the plan of the prompt before.
    predictions: HashMap<(PlanId, Option<PlanId>), Estimate>,
    /// The one that was needed last: prompts of one plan come in rows.
    last: Option<((PlanId, Option<PlanId>), Estimate)>,
}

impl Plans {
    /// Predicts how long the prompts of a queue take, in the order of the queue, up to the first one of
    /// which nothing is known: those behind it cannot be predicted, and need not be read. If the limits of
    /// one prediction are reached, the rest is unknown until a later one.
    ///
    /// `source` has the plans of prompts. `predict` returns how long a prompt with a
    /// plan and these cached nodes runs.
    pub(in crate::relay) fn predict(
        &mut self,
        queue: &Queue,
        source: &impl QueuedPlans,
        predict: impl Fn(&Plan, &[String]) -> Estimate,
    ) -> QueuePrediction {
        self.retain(queue);
        let revision = source.revision();
        let mut pass = Pass {
            is_current: self.revision == Some(revision),
            ..Pass::default()
        };
        let mut running = HashMap::new();
        let mut before = None;
        for entry in queue.running() {
            let plan = self.plan(&entry.prompt_id, source, &mut pass);
            let whole = plan.map(|plan| self.estimate(plan, None, &predict, &mut pass));
            running.insert(entry.prompt_id.to_string(), whole.unwrap_or_default());
            before = plan;
        }
        let mut waiting = Vec::with_capacity(queue.pending_count());
        let mut ahead: Option<Estimate> = None;
        for entry in queue.pending() {
            let Some(plan) = self.plan(&entry.prompt_id, source, &mut pass) else {
                break;
            };
            let alone = self.estimate(plan, before, &predict, &mut pass);
            let until = Estimate::queued(ahead, alone);
            if until.remaining.is_none() {
                break;
            }
            waiting.push(WaitingEstimate {
                start: ahead.and_then(|ahead| ahead.remaining).unwrap_or(0.0),
                end: until,
            });
            (ahead, before) = (Some(until), Some(plan));
        }
        // What comes behind the last one that is known was not compared.
        let is_whole = waiting.len() == queue.pending_count();
        self.revision = is_whole.then_some(revision);
        QueuePrediction {
            running,
            waiting,
            lack: pass.lack,
        }
    }

    /// Forgets prompts that are not in the queue any more, once they are worth the look at all others.
    fn retain(&mut self, queue: &Queue) {
        let count = queue.running().len() + queue.pending_count();
        if self.by_prompt.len() <= count + count / GONE_SHARE && !self.is_full() {
            return;
        }
        self.by_prompt
            .retain(|prompt, _| queue.position(prompt).is_some());
        let used: HashSet<PlanId> = self.by_prompt.values().map(|plan| plan.id).collect();
        self.plans.retain(|id, _| used.contains(id));
    }

    /// Those of these prompts whose plans can be read only from their graphs.
    pub(in crate::relay) fn unknown<'a>(
        &self,
        prompts: impl Iterator<Item = &'a str>,
        source: &impl QueuedPlans,
    ) -> Vec<String> {
        if self.is_full() {
            return Vec::new();
        }
        let is_unknown = |prompt: &&str| match self.by_prompt.get(*prompt) {
            Some(plan) => source.knows_any(&plan.awaited),
            None => source.version(prompt).is_none(),
        };
        prompts.filter(is_unknown).map(str::to_owned).collect()
    }

    fn is_full(&self) -> bool {
        let nodes: usize = self.plans.values().map(|plan| plan.nodes().count()).sum();
        self.plans.len() >= MAX_PLANS || nodes >= MAX_NODES
    }

    /// The plan of a prompt, read again only if something has changed. `None` if it is not known, and its graph was not read
    /// or a limit is reached.
    fn plan(
        &mut self,
        prompt_id: &str,
        source: &impl QueuedPlans,
        pass: &mut Pass,
    ) -> Option<PlanId> {
        let before = self.by_prompt.get(prompt_id);
        if let Some(plan) = before.filter(|_| pass.is_current) {
            return Some(plan.id);
        }
        let version = source.version(prompt_id);
        let before = match before {
            Some(plan) if plan.version == version && !source.knows_any(&plan.awaited) => {
                return Some(plan.id);
            }
            before => before.map(|plan| plan.id),
        };
        if self.is_full() {
            return before;
        }
        let (plan, awaited) = match (source.of_job(prompt_id), source.graph(prompt_id)) {
            (Some(plan), _) => (plan, Vec::new()),
            (None, None) => {
                pass.lack = Lack::Graph;
                return before;
            }
            (None, Some(entry)) if pass.read > 0 && pass.read + entry.size() > MAX_READ => {
                pass.lack = Lack::Time;
                return before;
            }
            (None, Some(entry)) => {
                pass.read += entry.size();
                source.read(entry)
            }
        };
        let same = self.plans.iter().find(|(_, kept)| **kept == plan);
        let id = match same {
            Some((id, _)) => *id,
            None => {
                self.next_id += 1;
                self.plans.insert(self.next_id, plan);
                self.next_id
            }
        };
        let plan = QueuedPlan {
            id,
            version,
            awaited,
        };
        self.by_prompt.insert(prompt_id.to_owned(), plan);
        Some(id)
    }

    /// How long a prompt runs after the one before it; the default if that is not known.
    ///
    /// ComfyUI keeps the outputs of the prompt before: models that both load need not be loaded again. It
    /// is not assumed that anything else is cached.
    fn estimate(
        &self,
        id: PlanId,
        before: Option<PlanId>,
        predict: &impl Fn(&Plan, &[String]) -> Estimate,
        pass: &mut Pass,
    ) -> Estimate {
        let key = (id, before);
        if let Some((_, known)) = pass.last.filter(|(last, _)| *last == key) {
            return known;
        }
        if let Some(known) = pass.predictions.get(&key) {
            pass.last = Some((key, *known));
            return *known;
        }
        let Some(plan) = self.plans.get(&id).filter(|plan| !plan.is_empty()) else {
            return Estimate::default();
        };
        pass.predicted += plan.nodes().count();
        if pass.predicted > MAX_PREDICTED {
            return Estimate::default();
        }
        let loaded = before
            .and_then(|before| self.plans.get(&before))
            .map_or_else(Vec::new, |before| shared_loaders(plan, before));
        let estimate = predict(plan, &loaded);
        pass.predictions.insert(key, estimate);
        estimate
    }
}

/// The nodes of a plan that load what the plan before it loads, with everything that their loaders depend on.
fn shared_loaders(plan: &Plan, before: &Plan) -> Vec<String> {
    let is_loader = |(_, node): &(&str, &PlannedNode)| node.role == Role::Loader;
    let loaded: HashSet<&str> = before
        .needed()
        .filter(is_loader)
        .map(|(_, node)| node.signature.as_str())
        .collect();
    let is_loaded = |id: &String| {
        let node = plan.node(id);
        node.is_some_and(|node| loaded.contains(node.signature.as_str()))
    };
    plan.needed()
        .filter(is_loader)
        .filter(|(_, node)| node.loaders.iter().all(is_loaded))
        .map(|(id, _)| id.to_owned())
        .collect()
}

#[cfg(test)]
mod tests;
