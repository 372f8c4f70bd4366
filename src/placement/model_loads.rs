use std::collections::HashMap;

use super::guesses::Guesses;
use super::kind::Kind;

/// The seconds that loading each model takes on a usual backend: the mean of those that are known, 0 if none is.
#[derive(Debug)]
pub(super) struct ModelLoads {
    usual: Vec<f64>,
    /// By the key of the model, an index of `usual`.
    indices: HashMap<u64, usize>,
    /// The index of the model of each kind.
    of_kinds: Vec<Option<usize>>,
}

impl ModelLoads {
    pub(super) fn of(backends: usize, kinds: &[Kind], guesses: &Guesses) -> Self {
        let mut indices = HashMap::new();
        let of_kinds = kinds.iter().map(|kind| {
            let next = indices.len();
            kind.model.map(|key| *indices.entry(key).or_insert(next))
        });
        let of_kinds: Vec<Option<usize>> = of_kinds.collect();
        let mut sums = vec![(0.0, 0_usize); indices.len()];
        for (kind, model) in kinds.iter().zip(&of_kinds) {
            let Some(model) = model else { continue };
            for (backend, runtime) in kind.runtimes.iter().take(backends).enumerate() {
                if let Some(load) = runtime.and_then(|runtime| runtime.load()) {
                    sums[*model].0 += load / guesses.slowness(backend);
                    sums[*model].1 += 1;
                }
            }
        }
        let usual = sums.into_iter();
        Self {
            usual: usual
                .map(|(sum, count)| sum / count.max(1) as f64)
                .collect(),
            indices,
            of_kinds,
        }
    }

    /// The seconds of loading the model of a kind.
    pub(super) fn of_kind(&self, kind: usize) -> f64 {
        self.of_kinds[kind].map_or(0.0, |model| self.usual[model])
    }

    /// The seconds of loading a model; 0 of one that no kind works with.
    pub(super) fn of_model(&self, model: Option<u64>) -> f64 {
        let index = model.and_then(|model| self.indices.get(&model));
        index.map_or(0.0, |index| self.usual[*index])
    }
}
