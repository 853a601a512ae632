//! What a number of values say.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The middle of some values, and the middle half of them.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Spread {
    /// A quarter is below.
    pub low: f64,
    /// Half is below.
    pub median: f64,
    /// A quarter is above.
    pub high: f64,
}

impl FromIterator<f64> for Spread {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        // Between two values, in proportion.
        let at = |part: f64| {
            let place = values.len().saturating_sub(1) as f64 * part;
            let value = |index: f64| values.get(index as usize).copied().unwrap_or(f64::NAN);
            let (below, above) = (value(place.floor()), value(place.ceil()));
            below + (above - below) * place.fract()
        };
        Spread { low: at(0.25), median: at(0.5), high: at(0.75) }
    }
}

impl Spread {
    /// One value, which was not measured several times.
    pub fn single(value: f64) -> Spread {
        Spread { low: value, median: value, high: value }
    }
}

impl fmt::Display for Spread {
    /// `median (low to high)`, each with three digits that count.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = number;
        write!(f, "{} ({} to {})", number(self.median), number(self.low), number(self.high))
    }
}

/// A number with about three digits that count: `0.0123`, `1.23`, `45.6`, `789`, `12,345`.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        ..0.1 => format!("{value:.4}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => thousands(value.round() as i64),
    }
}

/// A whole number with its thousands apart.
pub fn thousands(number: impl Into<i64>) -> String {
    let number = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
