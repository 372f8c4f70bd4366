//! The bars of partner nodes: percentages that a service reports, not steps.

use super::Nodes;
use crate::job::Plan;

impl Nodes {
    /// Records that a run has shown that a service does its work. Returns whether that is new; of a run that has not
    /// begun, nothing is recorded.
    pub(in crate::job) fn add_partner(&mut self, run: &str) -> bool {
        self.runs.contains_key(run) && self.partners.insert(run.to_owned())
    }

    /// The ids of the runs that have shown that.
    pub(in crate::job) fn partners(&self) -> impl Iterator<Item = &str> {
        self.partners.iter().map(String::as_str)
    }

    /// Whether the bar of a run is a percentage.
    pub(super) fn is_percentage(&self, run: &str, plan: &Plan) -> bool {
        let display = self.runs.get(run).map(|state| state.display.as_str());
        let planned = display.and_then(|display| plan.node(display));
        self.partners.contains(run) || planned.is_some_and(|node| node.is_partner)
    }

    /// Reads the bars of partner nodes again that counted as steps before it was known what they are.
    pub(in crate::job) fn read_percentages(&mut self, plan: &Plan) {
        let runs = self.runs.iter();
        let counted = runs.filter(|(id, run)| {
            run.bar.is_some() && !run.timing.is_percentage && self.is_percentage(id, plan)
        });
        let counted: Vec<String> = counted.map(|(id, _)| id.clone()).collect();
        for id in counted {
            let Some(run) = self.runs.get_mut(&id) else {
                continue;
            };
            run.bar = run.bar.map(super::Bar::as_share);
            run.timing.forget_steps();
            if let Some(display) = self.displays.get_mut(&run.display) {
                display.steps = 1.0;
            }
        }
    }
}
