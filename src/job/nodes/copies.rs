/// The copies of a node that have ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct EndedCopies {
    count: u32,
    /// What they took in all, the first one left out, in seconds.
    others: f64,
    /// What the first one took, which may have waited for models.
    first: f64,
}

impl EndedCopies {
    pub(super) fn add(&mut self, seconds: f64) {
        if self.count == 0 {
            self.first = seconds;
        } else {
            self.others += seconds;
        }
        self.count += 1;
    }

    pub(super) fn count(self) -> u32 {
        self.count
    }

    /// How many show what one takes, and the mean of that in seconds. The first one only while there is no other.
    pub(super) fn measured(self) -> Option<(f64, f64)> {
        match self.count {
            0 => None,
            1 => Some((1.0, self.first)),
            _ => {
                let others = f64::from(self.count - 1);
                Some((others, self.others / others))
            }
        }
    }
}
