//! Quantizers of weights that a file does not name, made of the weights themselves.

use super::scheme::{self, Arithmetic, Codes};
use super::sites::Sites;
use super::{Encodings, Format, WeightRule};
use crate::{Affine, Constant, PerChannel, Quantizer, ValueId, ZeroPointAdded};

impl Encodings {
    /// The quantizer that the tool makes of these weights; `None` where it makes none.
    ///
    /// # Errors
    /// The weights are not finite.
    pub(super) fn of_weights(
        &self,
        sites: &Sites,
        value: ValueId,
    ) -> Result<Option<Quantizer>, String> {
        let file = &sites.graph.values[value];
        let Some(Constant::F32(weights)) = file.constant.as_deref() else {
            return Ok(None);
        };
        if weights.iter().any(|w| !w.is_finite()) {
            return Err(format!("the weights '{}' are not finite", file.name));
        }
        let extremes = |per_channel: bool| -> (Option<usize>, Vec<(f32, f32)>) {
            let axis = sites.channel_axis(value).filter(|_| per_channel);
            let count = axis.map_or(1, |axis| file.shape[axis]);
            let inner: usize = axis.map_or(1, |axis| file.shape[axis + 1..].iter().product());
            let mut found = vec![(0.0f32, 0.0f32); count];
            for (index, &w) in weights.iter().enumerate() {
                let (min, max) = &mut found[index / inner % count];
                *min = min.min(w);
                *max = max.max(w);
            }
            (axis, found)
        };
        Ok(match self.weights {
            WeightRule::None => None,
            WeightRule::Gfpq => {
                let max = weights.iter().fold(0.0f32, |m, w| m.max(w.abs()));
                Some(Quantizer::MqBenchGfpq { max })
            }
            WeightRule::Symmetric { per_channel } => {
                let (axis, found) = extremes(per_channel);
                let largest = found
                    .iter()
                    .map(|(min, max)| f64::from(-min).max(f64::from(*max)));
                // A channel of zeros has any scale.
                let scales: Vec<f64> = largest
                    .map(|m| if m == 0.0 { 1.0 } else { m / 127.0 })
                    .collect();
                let affine = match self.format {
                    Format::Distiller => scheme::multiplied(
                        &scales.iter().map(|s| 1.0 / s).collect::<Vec<_>>(),
                        &[0.0],
                        Codes::signed(8),
                        ZeroPointAdded::BeforeRounding,
                    )?,
                    _ => scheme::affine(&scales, &[0.0], Codes::narrow(8), self.arithmetic())?,
                };
                Some(Quantizer::Affine(along(affine, axis)))
            }
            WeightRule::Asymmetric { per_channel } => {
                let (axis, found) = extremes(per_channel);
                let step = |(min, max): &(f32, f32)| match f64::from(*max) - f64::from(*min) {
                    0.0 => 1.0,
                    span => span / 255.0,
                };
                let scales: Vec<f64> = found.iter().map(step).collect();
                let zeros: Vec<f64> = found
                    .iter()
                    .zip(&scales)
                    .map(|((min, _), s)| -libm::rint(f64::from(*min) / s) + 0.0)
                    .collect();
                let affine =
                    scheme::affine(&scales, &zeros, Codes::unsigned(8), self.arithmetic())?;
                Some(Quantizer::Affine(along(affine, axis)))
            }
        })
    }

    fn arithmetic(&self) -> Arithmetic {
        match self.format {
            Format::MqBench(_) => Arithmetic::Reciprocal,
            _ => Arithmetic::Divide,
        }
    }

    /// The rule in words.
    pub(super) fn weight_rule(&self) -> Option<&'static str> {
        match self.weights {
            WeightRule::None => None,
            WeightRule::Gfpq => Some("the logarithmic grid of max|w|"),
            WeightRule::Symmetric { per_channel: true } => {
                Some("max|w| / 127 of each output channel")
            }
            WeightRule::Symmetric { per_channel: false } => Some("max|w| / 127"),
            WeightRule::Asymmetric { per_channel: true } => {
                Some("(max - min) / 255 of each output channel")
            }
            WeightRule::Asymmetric { per_channel: false } => Some("(max - min) / 255"),
        }
    }
}

/// A quantizer whose parameters lie along an axis.
pub(super) fn along(mut affine: Affine, axis: Option<usize>) -> Affine {
    let set = |parameter: &mut PerChannel<f32>| {
        parameter.axis = axis.filter(|_| parameter.values.len() > 1);
    };
    set(&mut affine.scale);
    set(&mut affine.zero_point);
    if let Some(multiplier) = &mut affine.multiplier {
        set(multiplier);
    }
    affine
}
