//! Partner nodes, whose work a service does. The graph does not show which these are.

use std::collections::HashSet;

use super::{Plan, PlannedNode};

impl Plan {
    /// The plan, with the nodes of these classes as partner nodes.
    pub fn with_partners(mut self, classes: &HashSet<String>) -> Self {
        let nodes = self.nodes.values_mut();
        let partners = nodes.filter(|node| classes.contains(&node.class_type));
        partners.for_each(PlannedNode::set_partner);
        self
    }

    /// Whether it has nodes of these classes that are not known as partner nodes.
    pub fn lacks_partners(&self, classes: &HashSet<String>) -> bool {
        let mut nodes = self.nodes.values();
        nodes.any(|node| !node.is_partner && classes.contains(&node.class_type))
    }

    /// Marks the node with this id as a partner node, if the graph has it.
    pub(in crate::job) fn set_partner(&mut self, id: &str) {
        if let Some(node) = self.nodes.get_mut(id) {
            node.set_partner();
        }
    }
}

impl PlannedNode {
    /// Steps that its graph sets are those of the service: they do not show here.
    fn set_partner(&mut self) {
        self.is_partner = true;
        self.steps = None;
        self.units = self.units.map(|units| units / self.calls);
        self.calls = 1.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steps_of_a_partner_node_are_those_of_its_service() {
        let text = r#"{
            "1": {"class_type": "PartnerSampler", "inputs": {"steps": 50}},
            "2": {"class_type": "KSampler", "inputs": {"steps": 20, "latent": ["1", 0]}}
        }"#;
        let plan = Plan::from_graph(&serde_json::from_str(text).unwrap(), None);
        let classes = HashSet::from(["PartnerSampler".to_owned()]);
        assert!(plan.lacks_partners(&classes));
        let plan = plan.with_partners(&classes);
        assert!(!plan.lacks_partners(&classes));
        let steps = |id: &str| {
            let node = plan.node(id).unwrap();
            (node.is_partner, node.steps, node.calls)
        };
        assert_eq!(steps("1"), (true, None, 1.0));
        assert_eq!(steps("2"), (false, Some(20), 20.0));
    }
}
