//! Several relays share the backends evenly: one that follows fewer than another wishes for a backend, and gets it when that
//! disturbs least.

use std::error::Error;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::job::JobId;
use crate::relay::backend::Lease;
use crate::relay::backend::follower::Follower;
use crate::store::StoreError;

/// How long the socket may take to close, and states to be written, before a backend is handed over.
const PUT_DOWN_TIMEOUT: Duration = Duration::from_secs(2);

impl Follower {
    /// Has the relay that follows the backend know that this one would, if it follows too few. Only of a server that answers: the
    /// other one reaches it.
    pub(super) async fn wish(&self) {
        let wished_at = self.backend.state().wished_at;
        if wished_at.is_some_and(|at| at.elapsed() < self.renewal_interval()) {
            return;
        }
        let wish = async {
            let (name, owner) = (self.backend.name(), &self.tracker.owner);
            let store = self.recorder.store();
            let may_wish = store.may_wish(name, owner).await?;
            let wishes = may_wish && self.backend.comfy.rest().version().await.is_ok();
            if wishes {
                store.wish_for_lease(name, owner, self.config.lease).await?;
            }
            Ok(wishes)
        };
        let wished = timeout(self.renewal_interval(), wish).await;
        let wishes = self.answer(wished).unwrap_or_default();
        self.backend.state().wished_at = wishes.then(Instant::now);
    }

    /// Hands the backend over to a relay that wishes for it, if this is a good moment: one after another, and while it has no
    /// job of ours, or after a while. Not while clients of ComfyUI's own API have sockets here, which get its events. Returns
    /// `false` if that has failed, and the backend is to be taken up again.
    pub(super) async fn hand_over(&self) -> bool {
        if !self.tracker.peers.has_others() {
            return true;
        }
        let Ok(_turn) = self.tracker.hand_over_turn.try_lock() else {
            return true;
        };
        let (name, owner) = (self.backend.name(), &self.tracker.owner);
        let store = self.recorder.store();
        let asking = timeout(self.renewal_interval(), store.is_lease_wanted(name, owner));
        let is_wanted = self.answer(asking.await).unwrap_or_default();
        // What the next relay goes on from.
        if !self.is_good_moment(is_wanted) || !self.is_written().await {
            return true;
        }
        tracing::info!("handing this ComfyUI over to another relay, which follows fewer");
        self.put_down();
        if !self.is_put_down().await {
            return false;
        }
        let handing_over = store.hand_over_lease(name, owner, self.config.lease);
        let handed_over = timeout(self.renewal_interval(), handing_over).await;
        self.answer(handed_over) == Some(true)
    }

    /// Whether the backend may move now, if it `is_wanted`.
    fn is_good_moment(&self, is_wanted: bool) -> bool {
        let wanted_since = {
            let wanted_since = &mut self.backend.state().wanted_since;
            *wanted_since = is_wanted.then(|| wanted_since.unwrap_or_else(Instant::now));
            *wanted_since
        };
        let Some(wanted_since) = wanted_since else {
            return false;
        };
        let tracker = &self.tracker;
        if tracker.tap.is_open() || tracker.has_work_under_way(&self.backend) {
            return false;
        }
        wanted_since.elapsed() >= self.config.hand_over_after
            || tracker.registry().count_open(&self.backend) == 0
    }

    /// Stands by, as though another relay had the lease already.
    fn put_down(&self) {
        {
            let mut state = self.backend.state();
            (state.lease_held_until, state.wanted_since) = (None, None);
        }
        // In this order: a job that is registered meanwhile is not ours either.
        self.backend.lease.send_replace(Lease::HeldByPeer);
        self.tracker.give_up(&self.backend);
        self.tracker.notify_monitors();
    }

    /// Waits until the database has the newest states of the backend's jobs. Returns whether it has.
    async fn is_written(&self) -> bool {
        let open: Vec<JobId> = {
            let registry = self.tracker.registry();
            registry.open_ids(&self.backend).cloned().collect()
        };
        let writing = async {
            for id in open {
                self.recorder.written(&id).await;
            }
        };
        timeout(PUT_DOWN_TIMEOUT, writing).await.is_ok()
    }

    /// Waits until the server has let the socket go, so that it does not mistake the next one for it. Returns whether it has.
    async fn is_put_down(&self) -> bool {
        let mut is_put_down = self.backend.is_put_down.subscribe();
        let putting_down = is_put_down.wait_for(|is_put_down| *is_put_down);
        // Fails only if the backend is gone, and we have it.
        timeout(PUT_DOWN_TIMEOUT, putting_down).await.is_ok()
    }

    /// What the database has answered; `None` if it has not, which is logged.
    fn answer<T, E>(&self, answered: Result<Result<T, StoreError>, E>) -> Option<T> {
        match answered {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(error)) => {
                let error = &error as &dyn Error;
                tracing::debug!(error, "cannot ask for the leases of others, retrying");
                None
            }
            Err(_) => {
                tracing::debug!("the database did not answer in time, retrying");
                None
            }
        }
    }
}
