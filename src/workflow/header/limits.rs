//! Within which limits the numbers of a parameter are.

use serde_json::Value;

/// The largest whole number that every program that reads JSON holds exactly.
pub(super) const MAX_SAFE: i128 = (1 << 53) - 1;

/// The whole numbers of a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntegerLimits {
    /// The smallest.
    pub minimum: i128,
    /// The largest.
    pub maximum: i128,
    /// Each is a multiple of this.
    pub step: Option<i128>,
}

/// The numbers of a parameter.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct NumberLimits {
    /// The smallest.
    pub minimum: Option<f64>,
    /// The largest.
    pub maximum: Option<f64>,
    /// By how much a form changes it. It is no limit: tenths cannot be held exactly.
    pub step: Option<f64>,
}

impl Default for IntegerLimits {
    fn default() -> Self {
        Self {
            minimum: -MAX_SAFE,
            maximum: MAX_SAFE,
            step: None,
        }
    }
}

impl IntegerLimits {
    /// What is wrong with a number.
    pub(super) fn check(&self, number: i128) -> Result<(), String> {
        if number < self.minimum {
            return Err(format!("{number} is less than {}", self.minimum));
        }
        if number > self.maximum {
            return Err(format!("{number} is more than {}", self.maximum));
        }
        match self.step {
            Some(step) if number % step != 0 => {
                Err(format!("{number} is not a multiple of {step}"))
            }
            _ => Ok(()),
        }
    }
}

impl IntegerLimits {
    /// The limits of the first of `count` numbers that grow by one; these limits themselves if there are not so many numbers from 0.
    pub(in crate::workflow) fn of_first(self, count: usize) -> Self {
        let maximum = self.maximum - (count as i128 - 1);
        if maximum < self.minimum.max(0) {
            return self;
        }
        Self { maximum, ..self }
    }

    /// The smallest and the largest number and the step as JSON; `null` where there is no step.
    pub(in crate::workflow) fn to_json(self) -> (Value, Value, Value) {
        let step = self.step.map_or(Value::Null, to_json);
        (to_json(self.minimum), to_json(self.maximum), step)
    }
}

impl NumberLimits {
    /// What is wrong with a number.
    pub(super) fn check(&self, number: f64) -> Result<(), String> {
        match (self.minimum, self.maximum) {
            (Some(minimum), _) if number < minimum => {
                Err(format!("{number} is less than {minimum}"))
            }
            (_, Some(maximum)) if number > maximum => {
                Err(format!("{number} is more than {maximum}"))
            }
            _ => Ok(()),
        }
    }
}

/// A whole number, also one that is written with a fraction of zero, as JSON Schema counts them.
pub(super) fn whole(value: &Value) -> Option<i128> {
    let number = value.as_number()?;
    if let Some(number) = number.as_i128() {
        return Some(number);
    }
    let number = number.as_f64()?;
    // What is larger than 64 bits is out of all limits.
    (number.fract() == 0.0 && number.abs() < 1e20).then_some(number as i128)
}

/// A whole number as JSON.
pub(super) fn to_json(number: i128) -> Value {
    let signed = i64::try_from(number).map(Value::from);
    let unsigned = || u64::try_from(number).map(Value::from);
    signed.or_else(|_| unsigned()).unwrap_or(Value::Null)
}
