//! Clients of the relays: they have prompts at ComfyUI servers, register them as jobs, and follow them.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::cluster::{JOBS, World, backend_of};
use super::process::SimulatedRelay;

/// How long a client waits for the answer of a relay.
const TIMEOUT: Duration = Duration::from_secs(5);

impl World {
    /// A client has a prompt, and registers it as a job. It asks one relay after another until one says that it has stored it.
    pub(super) async fn submit(self: Rc<Self>, job: usize) {
        self.pause(15_000).await;
        self.comfys[backend_of(job)].borrow_mut().submit(job);
        while !self.register(job).await {
            self.pause(2_000).await;
        }
        if !self.database.borrow().rows.contains_key(&job) {
            self.report(format!("job {job} is acknowledged, and has no row"));
        }
    }

    /// Returns whether a relay has acknowledged the job.
    async fn register(&self, job: usize) -> bool {
        let relays = self.relays.len() as u64;
        let Some(process) = self.running(self.draw(relays) as usize) else {
            return false;
        };
        let (answer, answered) = oneshot::channel();
        let name = process.name;
        self.executor.spawn(Some(name), async move {
            let _ = answer.send(process.register(job, backend_of(job)).await);
        });
        let answered = self.executor.clock.timeout(TIMEOUT, answered).await;
        answered.is_some_and(|answer| answer == Ok(true))
    }

    /// Subscribers come to a relay, one for each job, before it is registered or after.
    pub(super) async fn visit(self: Rc<Self>, process: Rc<SimulatedRelay>) {
        for job in 0..JOBS {
            self.pause(5_000).await;
            process.subscribe(job);
        }
    }
}
