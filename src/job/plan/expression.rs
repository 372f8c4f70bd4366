//! Arithmetic in the texts of nodes that calculate.
//!
//! The few rules of Python's arithmetic that such nodes use. Crates for expressions round, divide and take
//! remainders by other rules.

/// Evaluates an expression of Python: numbers, variables, `+ - * / // % **`, parentheses, and the functions
/// `min max round floor ceil int float abs sqrt`. `None` if it contains anything else, or if it has no finite value.
///
/// The caller bounds the length of the text, and with it the depth of the recursion.
pub(super) fn evaluate(text: &str, variable: impl Fn(&str) -> Option<f64>) -> Option<f64> {
    let mut parser = Parser {
        rest: text.trim_start(),
        variable,
    };
    let value = parser.sum()?;
    (parser.rest.is_empty() && value.is_finite()).then_some(value)
}

struct Parser<'t, F> {
    /// What is still to be read, without spaces before it.
    rest: &'t str,
    variable: F,
}

impl<'t, F: Fn(&str) -> Option<f64>> Parser<'t, F> {
    fn sum(&mut self) -> Option<f64> {
        let mut value = self.product()?;
        loop {
            if self.takes("+") {
                value += self.product()?;
            } else if self.takes("-") {
                value -= self.product()?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<f64> {
        let mut value = self.signed()?;
        loop {
            // The longer operator first.
            if self.takes("//") {
                value = (value / divisor(self.signed()?)?).floor();
            } else if self.takes("/") {
                value /= divisor(self.signed()?)?;
            } else if self.takes("%") {
                let by = divisor(self.signed()?)?;
                value -= by * (value / by).floor();
            } else if !self.rest.starts_with("**") && self.takes("*") {
                value *= self.signed()?;
            } else {
                return Some(value);
            }
        }
    }

    /// A sign binds less than a power: `-2**2` is -4.
    fn signed(&mut self) -> Option<f64> {
        if self.takes("-") {
            return Some(-self.signed()?);
        }
        if self.takes("+") {
            return self.signed();
        }
        let base = self.atom()?;
        if self.takes("**") {
            let exponent = self.signed()?;
            return Some(base.powf(exponent)).filter(|power| power.is_finite());
        }
        Some(base)
    }

    fn atom(&mut self) -> Option<f64> {
        if self.takes("(") {
            let value = self.sum()?;
            return self.takes(")").then_some(value);
        }
        let first = self.rest.chars().next()?;
        if first.is_ascii_digit() || first == '.' {
            return self
                .word(|letter| letter.is_ascii_digit() || letter == '.')
                .parse()
                .ok();
        }
        let name = self.word(|letter| letter.is_ascii_alphanumeric() || "_.".contains(letter));
        if self.takes("(") {
            return self.call(name);
        }
        (self.variable)(name)
    }

    fn call(&mut self, function: &str) -> Option<f64> {
        let mut values = vec![self.sum()?];
        while self.takes(",") {
            values.push(self.sum()?);
        }
        if !self.takes(")") {
            return None;
        }
        match (function, values.as_slice()) {
            ("min", values) => values.iter().copied().reduce(f64::min),
            ("max", values) => values.iter().copied().reduce(f64::max),
            ("round", [value]) => Some(value.round_ties_even()),
            ("floor", [value]) => Some(value.floor()),
            ("ceil", [value]) => Some(value.ceil()),
            ("int", [value]) => Some(value.trunc()),
            ("float", [value]) => Some(*value),
            ("abs", [value]) => Some(value.abs()),
            ("sqrt", [value]) => Some(value.sqrt()).filter(|root| root.is_finite()),
            _ => None,
        }
    }

    /// Takes the longest start whose letters all belong to a word, and the spaces behind it.
    fn word(&mut self, belongs: impl Fn(char) -> bool) -> &'t str {
        let end = self.rest.find(|letter| !belongs(letter));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        word
    }

    /// Takes a token, if it comes next, and the spaces behind it.
    fn takes(&mut self, token: &str) -> bool {
        let rest = self.rest.strip_prefix(token);
        if let Some(rest) = rest {
            self.rest = rest.trim_start();
        }
        rest.is_some()
    }
}

fn divisor(value: f64) -> Option<f64> {
    (value != 0.0).then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(text: &str) -> Option<f64> {
        let variable = |name: &str| match name {
            "a" => Some(1_000.0),
            "b" => Some(3.0),
            "a.width" => Some(640.0),
            _ => None,
        };
        evaluate(text, variable)
    }

    #[test]
    fn arithmetic_follows_the_rules_of_python() {
        for (text, result) in [
            ("1 + 2 * 3", 7.0),
            ("(1 + 2) * 3", 9.0),
            ("-7 // 2", -4.0),
            ("-7 % 3", 2.0),
            ("7 % -3", -2.0),
            ("2 ** 3 ** 2", 512.0),
            ("-2 ** 2", -4.0),
            ("2 ** -1", 0.5),
            ("round(2.5)", 2.0),
            ("round(3.5)", 4.0),
            ("int(-1.5)", -1.0),
            ("min(a, 512) / max(1, 2, .5)", 256.0),
            (" ( min(a, 720)//16 ) * 16 ", 720.0),
            ("a.width*1.5", 960.0),
            ("ceil(a / b)", 334.0),
        ] {
            assert_eq!(value(text), Some(result), "{text}");
        }
    }

    #[test]
    fn what_is_not_certain_has_no_value() {
        for text in [
            "",
            "c",
            "a +",
            "(a",
            "a)",
            "1 2",
            "a b",
            "1 / 0",
            "1 // 0",
            "1 % 0",
            "1..2",
            "0 ** -1",
            "max()",
            "random_int(1, 9)",
            "round(1, 2)",
            "a if b else 1",
            "a and b",
            "__import__('os')",
            "1e400",
            "9**9**9**9",
            "sqrt(-1)",
            "ä",
        ] {
            assert_eq!(value(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+*/%(), .0-9abinmax]{0,128}", any in ".{0,128}") {
            for text in [text, any] {
                prop_assert!(value(&text).is_none_or(f64::is_finite));
            }
        }

        /// What is put together is taken apart again.
        #[test]
        fn sums_and_products_have_their_values(
            first in 0..10_000_u32, factor in 1..100_u32, spaces in " {0,3}", by in 1..64_u32,
        ) {
            let text = format!("({first}{spaces}+{spaces}{factor}*b) //{spaces}{by} * {by}");
            let expected = (first + factor * 3) / by * by;
            prop_assert_eq!(value(&text), Some(f64::from(expected)));
        }
    }
}
