use std::collections::HashMap;

use super::guesses::Guesses;
use super::kind::Kind;
use super::waiting_job::WaitingJob;

/// How long models take to load, and how many of the jobs that are not planned yet work with each.
#[derive(Debug)]
pub(super) struct ModelLoads {
    models: Vec<ModelLoad>,
    /// By the key of the model, an index of `models`.
    indices: HashMap<u64, usize>,
    /// The index of the model of each kind.
    of_kinds: Vec<Option<usize>>,
}

/// One model.
#[derive(Debug)]
struct ModelLoad {
    /// The seconds of loading it on a usual backend: the mean of those that are known.
    usual: f64,
    /// How many jobs that are not planned yet work with it.
    waiting: usize,
}

impl ModelLoads {
    pub(super) fn of(kinds: &[Kind], waiting: &[WaitingJob], guesses: &Guesses) -> Self {
        let mut indices = HashMap::new();
        let of_kinds = kinds.iter().map(|kind| {
            let next = indices.len();
            kind.model.map(|key| *indices.entry(key).or_insert(next))
        });
        let of_kinds: Vec<Option<usize>> = of_kinds.collect();
        let mut sums = vec![(0.0, 0_usize); indices.len()];
        let mut counts = vec![0; indices.len()];
        for job in waiting {
            if let Some(Some(model)) = of_kinds.get(job.kind) {
                counts[*model] += 1;
            }
        }
        for (kind, model) in kinds.iter().zip(&of_kinds) {
            let Some(model) = model else { continue };
            let runtimes = kind.runtimes.iter().enumerate();
            let loads = runtimes.filter_map(|(backend, runtime)| {
                let load = (*runtime)?.load()?;
                guesses.slowness(backend).map(|slowness| load / slowness)
            });
            for load in loads {
                sums[*model].0 += load;
                sums[*model].1 += 1;
            }
        }
        let models = sums.into_iter().zip(counts);
        let models = models.map(|((sum, count), waiting)| ModelLoad {
            usual: sum / f64::max(count as f64, 1.0),
            waiting,
        });
        Self {
            models: models.collect(),
            indices,
            of_kinds,
        }
    }

    /// Records that a job of a kind is being planned.
    pub(super) fn begin(&mut self, kind: usize) {
        if let Some(Some(model)) = self.of_kinds.get(kind) {
            self.models[*model].waiting -= 1;
        }
    }

    /// The seconds on a usual backend that it costs later jobs if a model is not loaded any more.
    pub(super) fn reload(&self, model: Option<u64>) -> f64 {
        let index = model.and_then(|model| self.indices.get(&model));
        let model = index.map(|index| &self.models[*index]);
        let model = model.filter(|model| model.waiting > 0);
        model.map_or(0.0, |model| model.usual)
    }
}
