//! Sums of floats that do not depend on the order of their terms.

use serde::{Deserialize, Serialize};

use super::number;

/// A sum without rounding errors: floats whose exact sum it is (Shewchuk, "Adaptive precision floating-point arithmetic",
/// 1997, as in Python's `math.fsum`). Shards of any size end in the same bits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Exact {
    /// They do not overlap; the largest is last.
    parts: Vec<f64>,
    /// Sum of what is not finite.
    #[serde(with = "number")]
    special: f64,
}

impl Exact {
    /// Adds a term.
    pub fn add(&mut self, term: f64) {
        if !term.is_finite() {
            self.special += term;
            return;
        }
        let mut x = term;
        let mut kept = 0;
        for at in 0..self.parts.len() {
            let mut y = self.parts[at];
            if x.abs() < y.abs() {
                std::mem::swap(&mut x, &mut y);
            }
            let sum = x + y;
            if !sum.is_finite() {
                self.special += sum;
                self.parts.clear();
                return;
            }
            let rest = y - (sum - x);
            if rest != 0.0 {
                self.parts[kept] = rest;
                kept += 1;
            }
            x = sum;
        }
        self.parts.truncate(kept);
        if x != 0.0 {
            self.parts.push(x);
        }
    }

    /// Adds another sum.
    pub fn append(&mut self, other: &Self) {
        self.special += other.special;
        for &part in &other.parts {
            self.add(part);
        }
    }

    /// The nearest float, ties to even.
    pub fn value(&self) -> f64 {
        if self.special != 0.0 {
            return self.special;
        }
        let Some((&last, parts)) = self.parts.split_last() else {
            return 0.0;
        };
        let (mut high, mut low, mut left) = (last, 0.0, parts.len());
        while left > 0 {
            left -= 1;
            let (x, y) = (high, parts[left]);
            high = x + y;
            low = y - (high - x);
            if low != 0.0 {
                break;
            }
        }
        // A tie is none where more follows.
        if left > 0 && low * parts[left - 1].signum() > 0.0 {
            let twice = low * 2.0;
            let other = high + twice;
            if other - high == twice {
                high = other;
            }
        }
        high
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(terms: &[f64]) -> Exact {
        let mut sum = Exact::default();
        for &term in terms {
            sum.add(term);
        }
        sum
    }

    #[test]
    fn nothing_is_lost() {
        assert_eq!(sum(&[1e100, 1.0, -1e100]).value(), 1.0);
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        // Half-way between two floats, and a little more.
        let tie = 1.0 + f64::EPSILON / 2.0;
        assert_eq!(tie, 1.0);
        assert_eq!(sum(&[1.0, f64::EPSILON / 2.0]).value(), 1.0);
        let more = sum(&[1.0, f64::EPSILON / 2.0, 1e-300]).value();
        assert_eq!(more, 1.0 + f64::EPSILON);
        assert!(sum(&[1.0, f64::INFINITY]).value().is_infinite());
        assert!(sum(&[f64::NEG_INFINITY, f64::INFINITY]).value().is_nan());
        assert_eq!(Exact::default().value(), 0.0);
    }

    #[test]
    fn no_order_matters() {
        let mut random = crate::generate::Random::new(7, 0);
        let terms: Vec<f64> = (0..400)
            .map(|_| (random.unit() - 0.5) * (random.unit() * 200.0 - 100.0).exp2())
            .collect();
        let whole = sum(&terms).value();
        let mut backwards = terms.clone();
        backwards.reverse();
        assert_eq!(sum(&backwards).value(), whole);
        for cut in [1, 7, 133, 399] {
            let mut parts = sum(&terms[cut..]);
            parts.append(&sum(&terms[..cut]));
            assert_eq!(parts.value(), whole, "{cut}");
            let text = serde_json::to_string(&parts).expect("JSON");
            let read: Exact = serde_json::from_str(&text).expect("JSON");
            assert_eq!(read, parts);
        }
    }
}
