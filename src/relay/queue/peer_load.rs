//! [`PeerLoad`]: how busy a backend is that another relay follows.

use jiff::Timestamp;

use crate::estimate::Estimate;
use crate::store::{PeerPrompt, ReportedLoad};

/// What a backend has that another relay follows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PeerLoad {
    /// How many prompts it has.
    pub(super) prompts: usize,
    /// When it is free, if that is known of all.
    pub(super) free_at: Option<Timestamp>,
}

impl PeerLoad {
    /// With another prompt.
    pub(super) fn with(self, prompt: &PeerPrompt) -> Self {
        let is_known = self.prompts == 0 || self.free_at.is_some();
        let free_at = prompt.ends_at.max(self.free_at);
        Self {
            prompts: self.prompts + 1,
            free_at: free_at.filter(|_| is_known && prompt.ends_at.is_some()),
        }
    }

    /// With what the relay that follows the backend has written of it: it sees prompts of other clients, too. What was handed in
    /// since is in the rows of the jobs alone.
    pub(super) fn with_reported(self, reported: &ReportedLoad) -> Self {
        if reported.prompts <= self.prompts {
            return self;
        }
        Self {
            prompts: reported.prompts,
            free_at: reported
                .free_at
                .map(|at| self.free_at.unwrap_or(at).max(at)),
        }
    }

    /// When it is free; `None` while that is not known.
    pub(super) fn free(self, now: Timestamp) -> Option<Estimate> {
        let left = self.free_at?.duration_since(now).as_secs_f64();
        Some(Estimate {
            remaining: Some(left.max(0.0)),
            ..Estimate::none_left()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(ends_at: Option<i64>) -> PeerPrompt {
        PeerPrompt {
            backend: "gpu1:8188".into(),
            ends_at: ends_at.map(|at| Timestamp::from_second(at).unwrap()),
        }
    }

    fn load(ends: &[Option<i64>]) -> PeerLoad {
        let prompts = ends.iter().map(|at| prompt(*at));
        prompts.fold(PeerLoad::default(), |load, prompt| load.with(&prompt))
    }

    fn free_in(ends: &[Option<i64>], now: i64) -> Option<f64> {
        let free = load(ends).free(Timestamp::from_second(now).unwrap());
        free.and_then(|free| free.remaining)
    }

    #[test]
    fn a_backend_is_free_when_the_last_of_its_prompts_ends() {
        assert_eq!(free_in(&[Some(130), Some(190), Some(160)], 100), Some(90.0));
        assert_eq!(free_in(&[Some(130)], 150), Some(0.0), "it is late");
    }

    #[test]
    fn prompts_of_other_clients_count_as_the_relay_that_sees_them_says() {
        let reported = |prompts, free_at: Option<i64>| ReportedLoad {
            backend: "gpu1:8188".into(),
            prompts,
            free_at: free_at.map(|at| Timestamp::from_second(at).unwrap()),
            report: None,
        };
        let own = load(&[Some(130)]);
        let both = own.with_reported(&reported(3, Some(200)));
        assert_eq!(
            (both.prompts, both.free_at),
            (3, reported(3, Some(200)).free_at)
        );
        assert_eq!(own.with_reported(&reported(3, None)).free_at, None);
        let newer = own.with_reported(&reported(1, Some(200)));
        assert_eq!(newer.free_at, own.free_at, "its rows say more");
        let foreign = PeerLoad::default().with_reported(&reported(2, Some(150)));
        assert_eq!(
            (foreign.prompts, foreign.free_at),
            (2, reported(2, Some(150)).free_at)
        );
    }

    #[test]
    fn nobody_knows_when_a_backend_is_free_if_the_end_of_a_prompt_is_not_known() {
        for ends in [[None, Some(130)], [Some(130), None]] {
            assert_eq!(free_in(&ends, 100), None);
            assert_eq!(load(&ends).prompts, 2);
        }
    }
}
