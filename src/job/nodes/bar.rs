/// A progress bar, as ComfyUI sends it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Its position.
    pub value: f64,
    /// Its length.
    pub max: f64,
}

impl Bar {
    /// The share that is done, 0 to 1; 0 for a bar without length.
    pub fn share(self) -> f64 {
        if self.max > 0.0 {
            (self.value / self.max).clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// The same bar as a share of 1, which counts no steps.
    pub(super) fn as_share(self) -> Self {
        Self {
            value: self.share(),
            max: 1.0,
        }
    }

    /// `(step, steps)` if the bar counts whole steps, at least two.
    pub fn steps(self) -> Option<(u32, u32)> {
        let whole = |x: f64| x.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&x);
        (whole(self.value) && whole(self.max) && self.max >= 2.0)
            .then_some((self.value.min(self.max) as u32, self.max as u32))
    }
}
