use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The name of a counter, and what it counts.
type NamedCounter<'a> = (&'static str, &'static str, &'a Counter);

/// What a broker counts. Clones share the counters.
#[derive(Debug, Clone, Default)]
pub struct BrokerMetrics {
    /// States that Redis has passed on.
    pub published: Counter,
    /// States of which a newer one waited already, or for which there was no room.
    pub conflated: Counter,
    /// States that Redis has refused, because another relay has published a newer one of the job.
    pub stale: Counter,
    /// States of other relays that were received.
    pub received: Counter,
    /// Messages on channels of relays that are no states.
    pub rejected: Counter,
    /// Reports of producers that were received.
    pub reports: Counter,
    /// Reports of producers that were not taken.
    pub reports_rejected: Counter,
    /// Messages by which other relays were woken.
    pub wake_ups_sent: Counter,
    /// Messages by which other relays have woken this one.
    pub wake_ups_received: Counter,
    /// Looks at the database because of them.
    pub looks: Counter,
    /// Previews that were passed on to other relays.
    pub previews_sent: Counter,
    /// Previews of other relays that were received.
    pub previews_received: Counter,
    /// Commands and connections that have failed.
    pub errors: Counter,
}

impl BrokerMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in self.of_states().into_iter().chain(self.of_others()) {
            registry.register(name, help, counter.clone());
        }
    }

    fn of_states(&self) -> [NamedCounter<'_>; 6] {
        [
            (
                "redis_published",
                "States that Redis has passed on",
                &self.published,
            ),
            (
                "redis_conflated",
                "States that were not sent or not read, because a newer one of the job was there",
                &self.conflated,
            ),
            (
                "redis_stale",
                "States that Redis has refused, because another relay has published a newer one of the job",
                &self.stale,
            ),
            (
                "redis_received",
                "States of other relays' jobs that were received",
                &self.received,
            ),
            (
                "redis_rejected",
                "Messages on the relays' channels that are no states",
                &self.rejected,
            ),
            (
                "redis_errors",
                "Connections to Redis and commands that have failed",
                &self.errors,
            ),
        ]
    }

    fn of_others(&self) -> [NamedCounter<'_>; 7] {
        [
            (
                "redis_reports",
                "Reports of producers that were received",
                &self.reports,
            ),
            (
                "redis_reports_rejected",
                "Reports of producers that were not taken",
                &self.reports_rejected,
            ),
            (
                "redis_wake_ups_sent",
                "Messages by which other relays were woken",
                &self.wake_ups_sent,
            ),
            (
                "redis_wake_ups_received",
                "Messages by which other relays have woken this one",
                &self.wake_ups_received,
            ),
            (
                "redis_looks",
                "Looks at the database because another relay has woken this one",
                &self.looks,
            ),
            (
                "redis_previews_sent",
                "Previews that were passed on to other relays",
                &self.previews_sent,
            ),
            (
                "redis_previews_received",
                "Previews of other relays' jobs that were received",
                &self.previews_received,
            ),
        ]
    }
}
