//! Bringing the model's quantizers onto a target's grids.
//!
//! A target that can hold the model's codes keeps them (perhaps under other labels: `int8` with zero point
//! 0 is `uint8` with zero point 128). A target that cannot has a grid of its own, made from the range that
//! the model's quantizer covers; that costs accuracy before any arithmetic does, and is reported first.

use std::sync::Arc;

use align_check_graph::{FakeQuantize, PerChannel, Quantizer};
use align_check_specs::{
    Activations, CodeClip, Granularity, Grid, Rounding, Signedness, Threshold, WeightDivision,
    Weights, ZeroPoints,
};

use crate::network::Linear;
use crate::num;
use crate::quantize::gfpq::Gfpq;
use crate::quantize::{self, CodeGrid};
use crate::tensor::{Channels, Data, Tensor};

/// What a value is stored as on a target.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueGrid {
    /// A real.
    Real,
    /// Integer codes.
    Codes {
        /// Their meaning, in the model's labels where the model's own codes are kept.
        grid: Arc<CodeGrid>,
        /// What the target adds to a code to get its own label for it.
        relabel: i64,
        /// Whether these are the model's own codes.
        model: bool,
    },
    /// A level of the logarithmic grid.
    Gfpq {
        /// The quantizer.
        gfpq: Gfpq,
        /// Range exponent.
        z: i32,
    },
}

impl ValueGrid {
    /// The model's own codes, or reals where it has none.
    pub fn of_model(quantizer: &Quantizer) -> Self {
        match quantize::grid(quantizer) {
            Some(grid) => Self::Codes {
                grid: Arc::new(grid),
                relabel: 0,
                model: true,
            },
            None => Self::Real,
        }
    }
}

/// A grid for an activation, and what had to change.
#[derive(Debug, Clone, PartialEq)]
pub struct Adapted {
    /// What the target stores.
    pub grid: ValueGrid,
    /// Why it is not the model's grid.
    pub mismatch: Option<String>,
}

/// Brings an activation's quantizer onto the target's grid.
///
/// # Errors
/// A text where the target has no counterpart at all.
pub fn activation(rule: &Activations, quantizer: &Quantizer) -> Result<Adapted, String> {
    match rule.quantizer {
        Grid::Model => Ok(Adapted {
            grid: ValueGrid::of_model(quantizer),
            mismatch: None,
        }),
        Grid::Gfpq => gfpq_activation(rule, quantizer),
        Grid::Affine | Grid::PowerOfTwo => affine_activation(rule, quantizer),
    }
}

fn gfpq_activation(rule: &Activations, quantizer: &Quantizer) -> Result<Adapted, String> {
    if let Quantizer::Gfpq(own) = quantizer {
        let Some(z) = own.z else {
            return Err("a logarithmic range that follows from the data".into());
        };
        if !rule.bits.contains(&own.bits()) {
            return Err(format!(
                "{}-bit logarithmic activations; the target has {:?} bits",
                own.bits(),
                rule.bits
            ));
        }
        return Ok(Adapted {
            grid: ValueGrid::Gfpq {
                gfpq: gfpq(rule, own.bits())?,
                z,
            },
            mismatch: None,
        });
    }
    let (lo, hi) = real_range(quantizer);
    let needed = storage_bits(quantizer);
    let bits = width(&rule.bits, needed).ok_or_else(|| {
        format!(
            "{needed}-bit activations; the target has {:?} bits",
            rule.bits
        )
    })?;
    let gfpq = gfpq(rule, bits)?;
    let max = lo.abs().max(hi.abs()) as f32;
    let z = gfpq.z_of(max);
    Ok(Adapted {
        grid: ValueGrid::Gfpq { gfpq, z },
        mismatch: Some(format!(
            "the model's grid is linear, the chip's logarithmic (GFPQ {bits} bit, z = {z} from the \
             quantizer's range {max})"
        )),
    })
}

/// The logarithmic quantizer that a spec describes.
///
/// # Errors
/// A text where the width is not one of the quantizer's.
pub fn gfpq(rule: &Activations, bits: u32) -> Result<Gfpq, String> {
    Gfpq::new(
        bits,
        rule.range_rounding.unwrap_or(Rounding::Floor),
        rule.threshold.unwrap_or(Threshold::Zero),
    )
    .ok_or_else(|| format!("{bits} bits on the logarithmic grid (8 and 16 exist)"))
}

/// The levels that the logarithmic quantizer gives to reals.
pub fn gfpq_levels(gfpq: Gfpq, z: i32, values: &[f64]) -> Vec<f64> {
    let mut levels: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    gfpq.apply_slice(&mut levels, z);
    levels.into_iter().map(f64::from).collect()
}

/// A linear grid over the range of a logarithmic one.
fn linear_range(rule: &Activations, own: &align_check_graph::Gfpq) -> Result<Adapted, String> {
    let Some(largest) = own.largest() else {
        return Err("a logarithmic range that follows from the data".into());
    };
    let bits = width(&rule.bits, own.bits()).ok_or_else(|| {
        format!(
            "{}-bit activations; the target has {:?} bits",
            own.bits(),
            rule.bits
        )
    })?;
    let kind = rule.quantizer;
    let grid = own_grid(kind, rule.zero_point, rule.signed, bits, -largest, largest);
    let mismatch = format!(
        "the model's grid is logarithmic (GFPQ {} bit); the target's is made from its range: scale {:e}",
        own.bits(),
        grid.scale.at(0)
    );
    Ok(Adapted {
        grid: ValueGrid::Codes {
            grid: Arc::new(grid),
            relabel: 0,
            model: false,
        },
        mismatch: Some(mismatch),
    })
}

fn affine_activation(rule: &Activations, quantizer: &Quantizer) -> Result<Adapted, String> {
    if let Quantizer::Gfpq(own) = quantizer {
        return linear_range(rule, own);
    }
    let (own_bits, own_signed) = match quantizer {
        Quantizer::Affine(affine) if affine.is_bipolar() => {
            return Err("a bipolar activation has no counterpart on the target".into());
        }
        Quantizer::Affine(affine) => (affine.bits, affine.signed),
        Quantizer::FakeQuantize(q) => limited(q)?,
        Quantizer::Bipolar { .. } => return Err(no_counterpart("BipolarQuant")),
        Quantizer::Trunc(_) => return Err(no_counterpart("Trunc")),
        Quantizer::Minifloat(_) => return Err(no_counterpart("FloatQuant")),
        Quantizer::Thresholds(_) => return Err(no_counterpart("MultiThreshold")),
        Quantizer::Gfpq(_) => return Err(no_counterpart("GFPQ")),
        Quantizer::MqBenchGfpq { .. } => return Err(no_counterpart("of NNIE's logarithmic grid")),
    };
    let bits = width(&rule.bits, own_bits).ok_or_else(|| {
        format!(
            "{own_bits}-bit activations; the target has {:?} bits",
            rule.bits
        )
    })?;
    let Some(grid) = quantize::grid(quantizer) else {
        return Err("a quantizer without integer codes".into());
    };
    let mut why = Vec::new();
    let half = 1i64 << (bits - 1);
    if !grid.is_uniform() && rule.granularity == Granularity::PerTensor {
        why.push("a scale for each channel".to_string());
    }
    if rule.quantizer == Grid::PowerOfTwo
        && grid
            .scale
            .values
            .iter()
            .any(|&s| num::power_of_two(s).is_none())
    {
        why.push("a scale that is no power of two".into());
    }
    let mut relabel = 0;
    // Unsigned codes around 2^(b-1) are signed codes around zero (Quark's XINT8: uint8 with zero point 128).
    let centre = grid.zero_point.at(0);
    let recentred = grid.zero_point.values.len() == 1
        && rule.quantizer == Grid::PowerOfTwo
        && matches!(rule.signed, Signedness::Signed | Signedness::AsStored)
        && grid.min - centre >= -half
        && grid.max - centre < half;
    match (rule.zero_point, rule.signed) {
        (ZeroPoints::Zero, _) if recentred => relabel = -centre,
        (ZeroPoints::Zero, signed) => {
            if grid.zero_point.values.iter().any(|&z| z != 0) {
                why.push("a zero point".into());
            }
            if matches!(signed, Signedness::Signed | Signedness::AsStored) && grid.max >= half {
                why.push(format!(
                    "codes up to {} (the target's {bits} bits are signed)",
                    grid.max
                ));
            }
            if signed == Signedness::Unsigned && grid.min < 0 {
                why.push("negative codes".into());
            }
        }
        (ZeroPoints::Any | ZeroPoints::Unsigned, Signedness::Signed | Signedness::AsStored)
            if !own_signed =>
        {
            relabel = -half;
        }
        (ZeroPoints::Any | ZeroPoints::Unsigned, Signedness::Unsigned) if own_signed => {
            relabel = half;
        }
        (ZeroPoints::Any | ZeroPoints::Unsigned, _) => {}
    }
    if why.is_empty() {
        let own_type = if own_signed {
            (-half, half - 1)
        } else {
            (0, 2 * half - 1)
        };
        let mut kept = grid;
        let mut mismatch = None;
        if rule.clip == CodeClip::Type && (kept.min, kept.max) != own_type {
            mismatch = Some(format!(
                "the target saturates at its type's codes {} to {}, the model at {} to {}",
                own_type.0, own_type.1, kept.min, kept.max
            ));
            (kept.min, kept.max) = own_type;
        }
        let grid = ValueGrid::Codes {
            grid: Arc::new(kept),
            relabel,
            model: true,
        };
        return Ok(Adapted { grid, mismatch });
    }
    let (lo, hi) = grid.real_range();
    let own = own_grid(rule.quantizer, rule.zero_point, rule.signed, bits, lo, hi);
    let mismatch = format!(
        "the model's quantizer has {}; the target's grid is made from its range: scale {:e} instead of {:e}",
        why.join(", "),
        own.scale.at(0),
        grid.scale.at(0),
    );
    Ok(Adapted {
        grid: ValueGrid::Codes {
            grid: Arc::new(own),
            relabel: 0,
            model: false,
        },
        mismatch: Some(mismatch),
    })
}

fn no_counterpart(name: &str) -> String {
    format!("a quantizer {name} of activations has no counterpart on it")
}

/// Width and sign of the codes of a quantizer that is given by limits.
fn limited(q: &FakeQuantize) -> Result<(u32, bool), String> {
    if !q.keeps_range() {
        return Err("a FakeQuantize whose output limits are not those of its input".into());
    }
    let quantizer = Quantizer::FakeQuantize(q.clone());
    if let Some(grid) = quantize::grid(&quantizer) {
        return Ok((bits_of(&grid), grid.min < 0));
    }
    let between = quantize::fake_quantize::zero_points(q)
        .and_then(|zeros| zeros.values.into_iter().find(|z| z.fract() != 0.0));
    Err(match between {
        Some(zero) => format!(
            "a FakeQuantize whose limits put zero between two codes (zero point {zero}): integers cannot hold it"
        ),
        None => "a FakeQuantize without integer codes".into(),
    })
}

/// A grid that covers `[lo, hi]`: symmetric where the target has no zero point.
fn own_grid(
    kind: Grid,
    zero_point: ZeroPoints,
    signed: Signedness,
    bits: u32,
    lo: f64,
    hi: f64,
) -> CodeGrid {
    let half = 1i64 << (bits - 1);
    let signed = matches!(signed, Signedness::Signed | Signedness::AsStored)
        || (signed == Signedness::Any && (zero_point == ZeroPoints::Any || lo < 0.0));
    let (min, max) = if signed {
        (-half, half - 1)
    } else {
        (0, 2 * half - 1)
    };
    let (lo, hi) = (lo.min(0.0), hi.max(0.0));
    if kind == Grid::PowerOfTwo {
        // The smallest step that holds the range, half a step of rounding included (Vitis AI's `diffs`
        // starts its search there: nndct_fix_kernels_cpu.cc).
        let needed = (-lo / (0.5 - min as f64)).max(hi / (max as f64 + 0.5));
        let scale = libm::exp2(libm::ceil(libm::log2(needed)));
        return CodeGrid::uniform(scale, 0, min, max);
    }
    let (scale, zero) = if zero_point == ZeroPoints::Any {
        let scale = (hi - lo) / (max - min) as f64;
        (
            scale,
            min - num::round_f64(lo / scale, Rounding::HalfEven) as i64,
        )
    } else {
        (lo.abs().max(hi) / max as f64, 0)
    };
    let scale = f64::from(scale as f32);
    CodeGrid::uniform(scale, zero, min, max)
}

/// Weights on a target's grid.
#[derive(Debug, Clone)]
pub struct AdaptedWeights {
    /// The weights: codes with at most one scale an output channel (axis 0), or reals.
    pub tensor: Arc<Tensor>,
    /// Whether these are the model's own codes.
    pub model: bool,
    /// Whether their codes mean what the model's do.
    pub model_grid: bool,
    /// Why they are not.
    pub mismatch: Option<String>,
}

/// The rule for a value that the model's file stores as integers, or does not.
pub fn as_stored(rule: &Activations, stored: bool) -> Activations {
    let mut rule = rule.clone();
    if stored && rule.signed == Signedness::AsStored {
        rule.signed = Signedness::Any;
    }
    rule
}

/// Brings a layer's weights onto the target's grid: `[weights]`.
///
/// # Errors
/// A text where the target has no counterpart.
pub fn weights(
    rule: &Weights,
    activations: &Activations,
    linear: &Linear,
) -> Result<AdaptedWeights, String> {
    let Some(own) = linear
        .by_reciprocal
        .as_ref()
        .filter(|_| rule.division == WeightDivision::ReciprocalF32)
    else {
        return on_target(rule, activations, &linear.weights);
    };
    let mut adapted = on_target(rule, activations, own)?;
    if adapted.model {
        let differing = match (&own.data, &linear.weights.data) {
            (Data::Codes { codes: a, .. }, Data::Codes { codes: b, .. }) => {
                a.iter().zip(b).filter(|(a, b)| a != b).count()
            }
            _ => own.len(),
        };
        adapted.model = false;
        adapted.mismatch = Some(format!(
            "w * f32(1 / s) on the target, w / s in the file: {differing} of {} weight codes differ",
            own.len()
        ));
    }
    Ok(adapted)
}

/// Brings constant weights, output channels along axis 0, onto the target's grid.
fn on_target(
    rule: &Weights,
    activations: &Activations,
    weights: &Arc<Tensor>,
) -> Result<AdaptedWeights, String> {
    let keep = |tensor: Arc<Tensor>| AdaptedWeights {
        tensor,
        model: true,
        model_grid: true,
        mismatch: None,
    };
    let per_output = |grid: &CodeGrid| {
        grid.is_uniform()
            || [grid.scale.axis, grid.zero_point.axis]
                .iter()
                .flatten()
                .all(|&axis| axis == 0)
    };
    match rule.quantizer {
        Grid::Model => Ok(match weights.grid() {
            Some(grid) if !per_output(grid) => keep(Arc::new(Tensor::real(
                weights.shape.clone(),
                weights.to_real().into_owned(),
            ))),
            _ => keep(weights.clone()),
        }),
        Grid::Gfpq => {
            if weights.grid().is_none() && is_on_levels(rule, activations, &weights.to_real()) {
                return Ok(keep(weights.clone()));
            }
            let bits = match (weights.grid(), rule.bits.as_slice()) {
                (Some(grid), allowed) => width(allowed, bits_of(grid)).unwrap_or(16),
                (None, [first, ..]) => *first,
                (None, []) => 8,
            };
            let gfpq = gfpq(activations, bits)?;
            let z = gfpq.z_of(weights.max_abs() as f32);
            let levels = gfpq_levels(gfpq, z, &weights.to_real());
            Ok(AdaptedWeights {
                tensor: Arc::new(Tensor::real(weights.shape.clone(), levels)),
                model: false,
                model_grid: false,
                mismatch: Some(format!(
                    "weights on the logarithmic grid (GFPQ {bits} bit, z = {z})"
                )),
            })
        }
        Grid::Affine | Grid::PowerOfTwo => {
            let bits = *rule.bits.iter().max().unwrap_or(&8);
            let half = 1i64 << (bits - 1);
            let why = match weights.grid() {
                None => Some("weights without integer codes".to_string()),
                Some(grid) if !per_output(grid) => {
                    Some("a weight scale along an input axis".into())
                }
                Some(grid) if !grid.is_uniform() && rule.granularity == Granularity::PerTensor => {
                    Some("a weight scale for each channel".into())
                }
                Some(grid)
                    if rule.quantizer == Grid::PowerOfTwo
                        && grid
                            .scale
                            .values
                            .iter()
                            .any(|&s| num::power_of_two(s).is_none()) =>
                {
                    Some("a weight scale that is no power of two".into())
                }
                Some(grid)
                    if rule.zero_point == ZeroPoints::Zero
                        && grid.zero_point.values.iter().any(|&z| z != 0)
                        || rule.zero_point == ZeroPoints::Unsigned
                            && grid.min < 0
                            && grid.zero_point.values.iter().any(|&z| z != 0) =>
                {
                    Some("a weight zero point".into())
                }
                Some(grid) if grid.min < -half || grid.max >= 2 * half => {
                    Some(format!("weights of {} bits", bits_of(grid)))
                }
                Some(grid) if rule.zero_point == ZeroPoints::Zero && grid.max >= half => {
                    Some("unsigned weights".into())
                }
                Some(_) => None,
            };
            let Some(why) = why else {
                return Ok(keep(weights.clone()));
            };
            let tensor = requantized_weights(rule, weights, half - 1);
            Ok(AdaptedWeights {
                tensor: Arc::new(tensor),
                model: false,
                model_grid: false,
                mismatch: Some(format!(
                    "the model has {why}; the target quantizes the weights anew"
                )),
            })
        }
    }
}

/// Whether reals are levels of the logarithmic grid already, so that the target leaves them as they are. The
/// largest one tells the exponent: levels lie a whole number of steps apart, whatever the exponent is.
fn is_on_levels(rule: &Weights, activations: &Activations, values: &[f64]) -> bool {
    let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    rule.bits.iter().any(|&bits| {
        let range = align_check_graph::Gfpq::of_clip(bits, largest as f32).and_then(|g| g.z);
        let (Ok(gfpq), Some(z)) = (gfpq(activations, bits), range) else {
            return false;
        };
        gfpq_levels(gfpq, z, values) == values
    })
}

/// Symmetric codes in `[-max, max]` with the largest magnitude (of each channel) at `max`.
fn requantized_weights(rule: &Weights, weights: &Tensor, max: i64) -> Tensor {
    let values = weights.to_real();
    let per_channel = rule.granularity == Granularity::PerChannel && !weights.shape.is_empty();
    let channels = if per_channel {
        Channels::along(0, &weights.shape)
    } else {
        Channels::ONE
    };
    let mut largest = vec![0.0f64; channels.count];
    for (i, v) in values.iter().enumerate() {
        let c = channels.of_index(i);
        largest[c] = largest[c].max(v.abs());
    }
    let scales: Vec<f64> = largest
        .iter()
        .map(|&m| if m == 0.0 { 1.0 } else { m / max as f64 })
        .map(|s| match rule.quantizer {
            Grid::PowerOfTwo => libm::exp2(libm::ceil(libm::log2(s))),
            _ => f64::from(s as f32),
        })
        .collect();
    let codes = values
        .iter()
        .enumerate()
        .map(|(i, v)| {
            let code = num::round_f64(v / scales[channels.of_index(i)], rule.rounding) as i64;
            code.clamp(-max, max) as i32
        })
        .collect();
    let grid = CodeGrid {
        scale: PerChannel {
            values: scales,
            axis: per_channel.then_some(0),
        },
        zero_point: PerChannel::uniform(0),
        min: -max,
        max,
    };
    Tensor::codes(weights.shape.clone(), codes, Arc::new(grid))
}

/// The narrowest of the target's widths that holds `bits`.
fn width(allowed: &[u32], bits: u32) -> Option<u32> {
    if allowed.is_empty() {
        return Some(bits);
    }
    allowed.iter().copied().filter(|&b| b >= bits).min()
}

fn bits_of(grid: &CodeGrid) -> u32 {
    let span = (grid.max - grid.min).max(1) as u64;
    64 - span.leading_zeros()
}

fn storage_bits(quantizer: &Quantizer) -> u32 {
    match quantizer {
        Quantizer::Affine(affine) => affine.bits,
        Quantizer::Gfpq(gfpq) => gfpq.bits(),
        Quantizer::Minifloat(float) => 1 + float.exponent_bits + float.mantissa_bits,
        _ => quantize::grid(quantizer).map_or(8, |grid| bits_of(&grid)),
    }
}

/// The reals that a quantizer can produce.
fn real_range(quantizer: &Quantizer) -> (f64, f64) {
    match (quantizer, quantize::grid(quantizer)) {
        (_, Some(grid)) => grid.real_range(),
        (Quantizer::Minifloat(float), None) => {
            let computed = (2.0 - libm::exp2(-f64::from(float.mantissa_bits)))
                * libm::exp2(
                    libm::exp2(f64::from(float.exponent_bits))
                        - 1.0
                        - f64::from(float.exponent_bias),
                );
            let max = computed.min(f64::from(float.max_value))
                * f64::from(
                    float
                        .scale
                        .values
                        .iter()
                        .fold(0.0f32, |m, s| m.max(s.abs())),
                );
            (-max, max)
        }
        (Quantizer::Gfpq(gfpq), None) => {
            let largest = gfpq.largest().unwrap_or(1.0);
            (-largest, largest)
        }
        (Quantizer::Thresholds(t), None) => {
            let ends =
                [0.0, t.steps as f64].map(|n| f64::from(t.out_scale) * n + f64::from(t.out_bias));
            (ends[0].min(ends[1]), ends[0].max(ends[1]))
        }
        (Quantizer::MqBenchGfpq { max }, None) => (-f64::from(*max), f64::from(*max)),
        (Quantizer::Affine(affine), None) => {
            let ends = [affine.min_code(), affine.max_code()].map(|code| {
                (code as f64 - f64::from(affine.zero_point.at(0))) * f64::from(affine.scale.at(0))
            });
            (ends[0], ends[1])
        }
        (Quantizer::FakeQuantize(q), None) => {
            let ends = [&q.output_low, &q.output_high];
            let all = ends.into_iter().flat_map(|limit| &limit.values);
            all.fold((f64::INFINITY, f64::NEG_INFINITY), |(lo, hi), &v| {
                (lo.min(f64::from(v)), hi.max(f64::from(v)))
            })
        }
        _ => (-1.0, 1.0),
    }
}

/// Puts a tensor on a value's grid, the way the target would store it.
pub fn put_on(grid: &ValueGrid, tensor: &Tensor) -> Option<Tensor> {
    match grid {
        ValueGrid::Real => match &tensor.data {
            Data::Real(_) => None,
            Data::Codes { .. } => Some(Tensor::real(
                tensor.shape.clone(),
                tensor.to_real().into_owned(),
            )),
        },
        ValueGrid::Codes { grid, .. } => {
            if tensor
                .grid()
                .is_some_and(|own| Arc::ptr_eq(own, grid) || own == grid)
            {
                return None;
            }
            if let Data::Codes { codes, grid: own } = &tensor.data
                && own.same_labels(grid)
            {
                // The grid lies within `i32`.
                let (lo, hi) = (grid.min as i32, grid.max as i32);
                let codes = codes.iter().map(|code| (*code).clamp(lo, hi)).collect();
                return Some(Tensor::codes(tensor.shape.clone(), codes, grid.clone()));
            }
            let channels = grid.channels(&tensor.shape);
            let codes = tensor
                .to_real()
                .iter()
                .enumerate()
                .map(|(i, &v)| {
                    let c = channels.of_index(i);
                    let code = num::round_f64(v / grid.scale.at(c), Rounding::HalfEven) as i64;
                    (code + grid.zero_point.at(c)).clamp(grid.min, grid.max) as i32
                })
                .collect();
            Some(Tensor::codes(tensor.shape.clone(), codes, grid.clone()))
        }
        ValueGrid::Gfpq { gfpq, z } => {
            let levels = gfpq_levels(*gfpq, *z, &tensor.to_real());
            Some(Tensor::real(tensor.shape.clone(), levels))
        }
    }
}
