//! Loops whose nodes are copied: which round runs, and how many copies of a node have ended.

use super::{LoopRounds, Nodes};
use crate::job::{NodeState, Plan};

impl Nodes {
    /// Records how far a loop is. Returns whether that is new; of a node that opens no loop, nothing
    /// is recorded.
    pub(in crate::job) fn set_rounds(
        &mut self,
        run: &str,
        rounds: LoopRounds,
        plan: &Plan,
    ) -> bool {
        let start = self.display_of(run, None, plan);
        if !plan.opens_loop(&start) {
            return false;
        }
        let before = self.loops.shift_remove(&start);
        self.loops.insert(start, rounds);
        before != Some(rounds)
    }

    /// The loops of which ComfyUI has said how far they are, the one with the newest text last.
    pub(in crate::job) fn loops(&self) -> impl DoubleEndedIterator<Item = (&str, LoopRounds)> {
        self.loops
            .iter()
            .map(|(start, rounds)| (start.as_str(), *rounds))
    }

    /// How many rounds have ended of the loop that runs, as ComfyUI says.
    pub fn current_round(&self) -> Option<LoopRounds> {
        let mut newest = self.loops.values().rev();
        newest.find(|rounds| rounds.ended < rounds.all).copied()
    }

    /// How many copies of a copied node have ended, as far as is known.
    pub fn ended_copies(&self, id: &str, plan: &Plan) -> f64 {
        let start = plan.only_loop_around(id);
        let said = start.and_then(|start| self.loops.get(start));
        let said = said.map_or(0, |rounds| rounds.ended);
        let seen = self
            .displays
            .get(id)
            .map_or(0, |display| display.copies.count());
        f64::from(said.max(seen))
    }

    /// How many copies show what one takes, and the mean of that in seconds. The first one shows it only while there is no other:
    /// it may have waited for models.
    pub fn measured_copies(&self, id: &str) -> Option<(f64, f64)> {
        self.displays.get(id)?.copies.measured()
    }

    /// Whether a node was copied, and all its copies have run or need not.
    pub fn have_copies_ended(&self, id: &str, plan: &Plan) -> bool {
        let state = self.copied_state(id, plan);
        matches!(state, Some(NodeState::Finished | NodeState::Cached))
    }

    /// The state of a copied node: that of all its copies.
    pub(super) fn copied_state(&self, id: &str, plan: &Plan) -> Option<NodeState> {
        let end = plan.outer_end(id)?;
        match self.displays.get(end).and_then(|end| end.state) {
            Some(NodeState::Cached) => return Some(NodeState::Cached),
            Some(NodeState::Running | NodeState::Finished) => return Some(NodeState::Finished),
            Some(NodeState::Failed | NodeState::Interrupted) | None => {}
        }
        let ended = self.ended_copies(id, plan);
        let known = plan.known_copies(id);
        if ended > 0.0 && known.is_some_and(|copies| ended >= copies) {
            return Some(NodeState::Finished);
        }
        self.displays.contains_key(id).then_some(NodeState::Running)
    }
}
