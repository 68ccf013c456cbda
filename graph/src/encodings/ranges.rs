//! Quantizers made of ranges that were measured here, not by a toolchain.

use std::path::Path;

use super::scheme::{self, Arithmetic, Codes, Scheme};
use super::{Encodings, Format, Parsed, Place, Role, WeightRule};
use crate::Error;

/// The range of an activation.
#[derive(Debug, Clone, PartialEq)]
pub struct Range {
    /// The tensor's name.
    pub tensor: String,
    /// Smallest element.
    pub min: f64,
    /// Largest element.
    pub max: f64,
}

impl Encodings {
    /// Quantizers of activations from their ranges, of weights from their largest magnitudes (`max|w| / 127` of each
    /// output channel). `symmetric`: zero point 0 and signed codes, else unsigned codes from the smallest to the largest
    /// element. `path` is for messages. A tensor of zeros gets no quantizer.
    ///
    /// # Errors
    /// A range is not finite, or no tensor has one.
    pub fn from_ranges(
        path: &Path,
        ranges: &[Range],
        bits: u32,
        symmetric: bool,
    ) -> Result<Self, Error> {
        let parse = || {
            let mut parsed = Parsed::new(Format::Measured);
            parsed.weights = WeightRule::Symmetric { per_channel: true };
            let bits = scheme::bits(f64::from(bits))?;
            for range in ranges.iter().filter(|r| r.min != 0.0 || r.max != 0.0) {
                let affine = if symmetric {
                    let amax = range.min.abs().max(range.max.abs());
                    scheme::symmetric(amax, Codes::signed(bits), Arithmetic::Divide)
                } else {
                    scheme::asymmetric(range.min, range.max, bits, Arithmetic::Divide)
                };
                let affine = affine.map_err(|what| format!("tensor '{}': {what}", range.tensor))?;
                let place = Place::Tensor(range.tensor.clone());
                parsed.push(place, Scheme::Affine(affine), Role::Activation);
            }
            Ok(parsed)
        };
        Self::from_parsed(path, parse())
    }
}
