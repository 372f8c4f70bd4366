//! [`NodeMap`]: which server holds which job.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::names::{ChannelNames, SLOTS};
use super::node::RedisNode;
use crate::job::JobId;

/// The servers, and the slots that each holds. One that is alone holds all.
#[derive(Debug, Default)]
pub(super) struct NodeMap {
    nodes: Vec<Arc<RedisNode>>,
    /// In their order, with the places of their nodes.
    ranges: Vec<(RangeInclusive<u16>, usize)>,
}

impl NodeMap {
    pub(super) fn alone(node: RedisNode) -> Self {
        Self::new(vec![(Arc::new(node), vec![0..=SLOTS - 1])])
    }

    pub(super) fn new(nodes: Vec<(Arc<RedisNode>, Vec<RangeInclusive<u16>>)>) -> Self {
        let mut map = Self::default();
        for (place, (node, slots)) in nodes.into_iter().enumerate() {
            map.nodes.push(node);
            map.ranges.extend(slots.into_iter().map(|it| (it, place)));
        }
        map.ranges.sort_by_key(|(slots, _)| *slots.start());
        map
    }

    pub(super) fn all(&self) -> &[Arc<RedisNode>] {
        &self.nodes
    }

    /// Whether the same servers hold the same slots.
    pub(super) fn is_as(&self, other: &Self) -> bool {
        let mut nodes = self.nodes.iter().zip(&other.nodes);
        self.ranges == other.ranges
            && self.nodes.len() == other.nodes.len()
            && nodes.all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The server that holds a job; `None` if none does, as far as is known.
    pub(super) fn of(&self, names: &ChannelNames, job: &JobId) -> Option<&Arc<RedisNode>> {
        let slot = match self.ranges.as_slice() {
            [(all, _)] if *all == (0..=SLOTS - 1) => 0,
            _ => names.slot(job),
        };
        let after = (self.ranges).partition_point(|(slots, _)| *slots.start() <= slot);
        let (slots, place) = self.ranges.get(after.checked_sub(1)?)?;
        slots.contains(&slot).then(|| &self.nodes[*place])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::BrokerMetrics;
    use crate::config::RedisConfig;

    fn node(name: &str) -> Arc<RedisNode> {
        let config = RedisConfig::new(name.to_owned());
        Arc::new(RedisNode::new(config, &BrokerMetrics::default()))
    }

    #[test]
    fn a_job_is_held_by_the_node_of_its_slot() {
        let names = ChannelNames::new("", true);
        // The slot of this job is 7738.
        let job = JobId::parse("shot-12").unwrap();
        let holder = |nodes| {
            let map = NodeMap::new(nodes);
            let node = map.of(&names, &job);
            node.map(|node| node.config.hosts[0].name.clone())
        };
        let (one, two) = (node("one"), node("two"));
        let parts = |first, second| vec![(one.clone(), first), (two.clone(), second)];
        assert_eq!(holder(Vec::new()), None);
        let halves = parts(vec![8_000..=16_383], vec![0..=7_999]);
        assert_eq!(holder(halves).as_deref(), Some("two"));
        let edges = parts(vec![0..=7_737, 7_739..=16_383], vec![7_738..=7_738]);
        assert_eq!(holder(edges).as_deref(), Some("two"));
        assert_eq!(holder(parts(vec![0..=7_737], vec![7_739..=9_000])), None);
        let all = vec![(one.clone(), vec![0..=16_383])];
        assert_eq!(holder(all).as_deref(), Some("one"));
    }
}
