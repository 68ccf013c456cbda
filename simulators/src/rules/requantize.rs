//! `[requantize]` and `[bias]`, bound to the scales of one layer: from an accumulator to an output code.

mod codes;

use align_check_specs::{
    Accumulator, Bias, BiasFormat, Bounds, ClampOrder, Derivation, Division, LeftShift, Multiplier,
    Overflow, Requantize, Rounding, Step, ZeroPointPosition,
};

pub use self::codes::Kept;
use super::Labels;
use super::fake_quantize;
pub use crate::num::round_to_i32;

use crate::num::trace::short;
use crate::num::{self, Exact, FastMultiplier, FixedMultiplier, Flagged, Flags, Trace, Width};

/// What one unit of the accumulator is worth, and the bias, of one channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unit {
    /// Input scale (the product of both, for products of two activations).
    pub x: f64,
    /// Weight scale times every factor behind the sum (batch normalization, `alpha`).
    pub w: f64,
    /// The input's zero point times the sum of the weights: what the sum of raw codes has more.
    pub zeros: i64,
    /// Real that is added.
    pub bias: f64,
    /// The same as the integer that the model stores, in units of the accumulator.
    pub code: Option<i64>,
}

/// The requantization of one layer.
#[derive(Debug, Clone)]
pub struct Requantizer {
    rule: Requantize,
    bias: BiasFormat,
    width: Width,
    out: Labels,
    lo: i64,
    hi: i64,
    channels: Vec<Channel>,
    /// What a negative accumulator is multiplied by before a power-of-two multiplier: a numerator over a power of two.
    slope: Option<(i64, u32)>,
}

#[derive(Debug, Clone)]
struct Channel {
    /// `f32(sx * sw)`.
    unit: f32,
    /// `M`, as the derivation makes it.
    m: f64,
    fixed: Option<FixedMultiplier>,
    fast: Option<FastMultiplier>,
    /// Right shift of a power-of-two multiplier.
    shift: i32,
    /// In units of the accumulator.
    bias: i64,
    /// In the unit that the float formats add it in.
    bias_f32: f32,
    /// In steps of the output, where it is exact.
    bias_exact: f64,
    /// Whether the channel lies behind the last block of `tail`.
    behind: bool,
    /// Of a `fake-quantize` multiplier.
    fake: Option<fake_quantize::Channel>,
}

impl Requantizer {
    /// Binds the rules of a spec to the scales of a layer. `clamp` are reals (a fused `ReLU`, `Clip`).
    ///
    /// # Errors
    /// A text where the scales do not fit the rule (a multiplier that is no power of two, ...).
    pub fn new(
        rule: &Requantize,
        bias: &Bias,
        accumulator: &Accumulator,
        units: &[Unit],
        out: Labels,
        clamp: (f64, f64),
    ) -> Result<Self, String> {
        Self::of_channels(rule, bias, accumulator, units, out, clamp, None)
    }

    /// [`new`](Self::new), of which only the codes of some channels may be asked: the multipliers of the others are not
    /// made.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn of_channels(
        rule: &Requantize,
        bias: &Bias,
        accumulator: &Accumulator,
        units: &[Unit],
        out: Labels,
        clamp: (f64, f64),
        wanted: Option<&[bool]>,
    ) -> Result<Self, String> {
        let bias = rule.bias.as_ref().unwrap_or(bias);
        let width = width(accumulator);
        let multipliers: Vec<f64> = units
            .iter()
            .map(|unit| derive(rule.derivation, unit.x, unit.w, out.scale))
            .collect();
        let largest = multipliers.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let shared_bias = BiasScale::of(units);
        let mut channels = Vec::with_capacity(units.len());
        // A power of two may be refused: then all of them are made.
        let wanted = wanted.filter(|wanted| {
            rule.multiplier != Multiplier::PowerOfTwo && wanted.len() == units.len()
        });
        let in_blocks = match &rule.tail {
            Some(tail) => units.len() - units.len() % (tail.block as usize).max(1),
            None => units.len(),
        };
        for (index, (unit, &m)) in units.iter().zip(&multipliers).enumerate() {
            // An exact bias does not pass through the multiplier: a factor of 0 leaves it alone.
            if (m == 0.0 && bias.format != BiasFormat::Exact) || !m.is_finite() {
                return Err(format!("a multiplier of {m}"));
            }
            channels.push(channel(
                rule,
                bias,
                unit,
                m,
                largest,
                &shared_bias,
                out,
                width,
                index >= in_blocks,
                wanted.is_none_or(|wanted| wanted[index]),
            )?);
        }
        if let Multiplier::FakeQuantize { fold } = rule.multiplier {
            let float = bias.format == BiasFormat::F32AfterScale;
            let biased = units.iter().any(|unit| unit.bias != 0.0);
            let units: Vec<Unit> = units
                .iter()
                .map(|unit| Unit {
                    bias: if float { unit.bias } else { 0.0 },
                    ..*unit
                })
                .collect();
            let fakes = fake_quantize::Channel::layer(fold, &units, biased, out, clamp)?;
            for (channel, fake) in channels.iter_mut().zip(fakes) {
                channel.fake = Some(fake);
            }
        }
        let bounds = rule.bounds.unwrap_or(match rule.multiplier {
            Multiplier::F32 | Multiplier::F32TwoSteps { .. } => Bounds::HalfEven,
            _ => Bounds::HalfAway,
        });
        let (lo, hi) = out.bounds(bounds, clamp);
        Ok(Self {
            rule: rule.clone(),
            bias: bias.format,
            width,
            out,
            lo,
            hi,
            channels,
            slope: None,
        })
    }

    /// The same with a leaky `ReLU` in front of the shift of a power-of-two multiplier: negative accumulators are worth
    /// `numerator / 2^shift` of what they are, and rounded once.
    #[must_use]
    pub fn with_slope(self, slope: (i64, u32)) -> Self {
        Self {
            slope: Some(slope),
            ..self
        }
    }

    /// What the accumulator of a channel starts from, where the bias is an integer in it.
    pub fn initial(&self, channel: usize) -> i64 {
        self.channels[channel].bias
    }

    /// The sums of a channel that stay within the accumulator together with the bias, both ends included.
    pub fn fits(&self, channel: usize) -> (i64, i64) {
        let bias = self.channels[channel].bias;
        let half = 1i64.checked_shl(self.width.bits - 1).unwrap_or(i64::MIN);
        match half.checked_neg() {
            Some(min) => (min.saturating_sub(bias), (half - 1).saturating_sub(bias)),
            None => (i64::MIN, i64::MAX),
        }
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels.len()
    }

    /// The multiplier of a channel as a text: what hardware would hold.
    pub fn multiplier(&self, channel: usize) -> String {
        let c = &self.channels[channel];
        match c.fixed {
            Some(f) => format!("{} * 2^{}", f.mantissa, f.exponent - f.bits as i32),
            None if self.rule.multiplier == Multiplier::PowerOfTwo => format!("2^{}", -c.shift),
            None => format!("{:e}", c.m),
        }
    }

    /// `M` of a channel as a real.
    pub fn real_multiplier(&self, channel: usize) -> f64 {
        self.channels[channel].m
    }

    /// The sum with its bias, and the stored code. `initialized`: the sum started from the bias.
    pub fn code(&self, sum: i64, channel: usize, initialized: bool) -> Flagged<i32> {
        self.traced(sum, channel, initialized, &mut Trace::off())
    }

    /// [`code`](Self::code), step by step.
    pub fn traced(
        &self,
        sum: i64,
        channel: usize,
        initialized: bool,
        trace: &mut Trace,
    ) -> Flagged<i32> {
        let c = &self.channels[channel];
        let acc = if initialized {
            Flagged::exact(sum)
        } else {
            let fitted = self.width.fit(i128::from(sum) + i128::from(c.bias));
            match c.bias {
                0 => fitted,
                bias => trace.flagged("with bias", || format!("{sum} + {bias}"), fitted),
            }
        };
        acc.and_then(|acc| self.finish(acc, c, steps(&self.rule, c.behind), trace))
    }

    /// [`code`](Self::code) with other steps in place of the rule's own: a search binds the rest of a rule once.
    pub fn code_by(&self, steps: &[Step], sum: i64, channel: usize) -> i32 {
        let c = &self.channels[channel];
        self.width
            .fit(i128::from(sum) + i128::from(c.bias))
            .and_then(|acc| self.finish(acc, c, steps, &mut Trace::off()))
            .value
    }

    /// Everything that decides codes but the steps and the accumulator: ends with equal numbers here give equal codes by
    /// equal steps.
    pub fn fingerprint(&self) -> Vec<u64> {
        let real = |v: f64| v.to_bits();
        let integer = |v: i64| v.cast_unsigned();
        let zero = match self.rule.zero_point {
            ZeroPointPosition::AfterRounding => 0,
            ZeroPointPosition::InsideRounding => 1,
            ZeroPointPosition::InBias => 2,
        };
        let clamp = u64::from(self.rule.clamp == ClampOrder::BeforeRounding);
        let mut all = vec![zero, clamp, integer(self.lo), integer(self.hi)];
        for c in &self.channels {
            all.push(integer(c.bias));
            match (self.rule.multiplier, c.fixed) {
                (_, Some(fixed)) => {
                    let left = match self.rule.left_shift {
                        _ if fixed.exponent <= 0 => 0,
                        LeftShift::Wrap => 1,
                        LeftShift::Saturate => 2,
                        LeftShift::Exact => 3,
                    };
                    let width = u64::from(fixed.bits) << 2 | left;
                    let exponent = integer(fixed.exponent.into());
                    all.extend([integer(fixed.mantissa), exponent, width]);
                }
                (Multiplier::PowerOfTwo, _) => all.push(integer(c.shift.into())),
                (Multiplier::F64 | Multiplier::F64Reduced { .. } | Multiplier::Exact, _) => {
                    all.extend([64, real(c.m), real(c.bias_exact)]);
                }
                (Multiplier::F32 | Multiplier::F32Reduced { .. }, _) => {
                    let bias = match self.bias {
                        BiasFormat::F32InAccumulator => 1,
                        BiasFormat::F32AfterScale => 2,
                        _ => 0,
                    };
                    all.extend([32, real((c.m as f32).into()), bias]);
                    all.push(if bias == 0 {
                        0
                    } else {
                        real(c.bias_f32.into())
                    });
                }
                (multiplier, _) => {
                    // Divisions and folded scales: nothing is told apart from its own rule alone.
                    let own = match multiplier {
                        Multiplier::F32TwoSteps { division } => 1 + division as u64,
                        _ => 100,
                    };
                    let bias = self.bias as u64;
                    all.extend([own, bias, real(c.unit.into()), real(c.bias_f32.into())]);
                    all.extend([real(c.m), real(c.bias_exact)]);
                }
            }
        }
        all
    }

    fn finish(&self, acc: i64, c: &Channel, steps: &[Step], trace: &mut Trace) -> Flagged<i32> {
        let first = steps.first().map_or(Rounding::HalfEven, |s| s.rounding);
        match self.rule.multiplier {
            Multiplier::F32 => {
                let v = self.scaled_f32(acc, c.m as f32, c, trace);
                self.round(f64::from(v), first, true, trace)
            }
            Multiplier::F32TwoSteps { division } => {
                let v = self.scaled_f32(acc, c.unit, c, trace);
                let scale = trace.step("scale out", String::new, self.out.scale_f32());
                let v = match division {
                    Division::ReciprocalF32 => {
                        let inverse =
                            trace.step("reciprocal", || "1 / scale out".into(), 1.0 / scale);
                        trace.step("in steps", || short(v) + " * reciprocal", v * inverse)
                    }
                    _ => trace.step("in steps", || short(v) + " / scale out", v / scale),
                };
                self.round(f64::from(v), first, true, trace)
            }
            Multiplier::F32Reduced { .. } => {
                let m = trace.step("multiplier", String::new, c.m as f32);
                let v = trace.step("scaled", || format!("{acc} * multiplier"), acc as f32 * m);
                self.round(f64::from(v), first, true, trace)
            }
            Multiplier::F64 | Multiplier::F64Reduced { .. } | Multiplier::Exact => {
                let m = trace.step("multiplier", String::new, c.m);
                let scaled = trace.step("scaled", || format!("{acc} * multiplier"), acc as f64 * m);
                let v = if c.bias_exact == 0.0 {
                    scaled + c.bias_exact
                } else {
                    let bias = trace.step("bias", || "in steps of the output".into(), c.bias_exact);
                    trace.step("with bias", || short(scaled) + " + bias", scaled + bias)
                };
                self.round(v, first, false, trace)
            }
            Multiplier::FakeQuantize { .. } => {
                let code = |fake: &fake_quantize::Channel| fake.traced(acc, self.out, first, trace);
                Flagged::exact(c.fake.as_ref().map_or(0, code))
            }
            Multiplier::PowerOfTwo => {
                let (sum, shift) = match self.slope {
                    Some((numerator, shift)) if acc < 0 => {
                        let how = || format!("{acc} * {numerator}");
                        let sloped = i128::from(acc) * i128::from(numerator);
                        (trace.step("sloped", how, sloped), c.shift + shift as i32)
                    }
                    _ => (i128::from(acc), c.shift),
                };
                let shifted = if shift >= 0 {
                    trace.shift_right(sum, shift as u32, first)
                } else {
                    let left = (-shift).min(62);
                    let how = || format!("{sum} * 2^{left}");
                    Flagged::exact(trace.step("shifted left", how, sum << left))
                };
                shifted.and_then(|v| self.place(v, trace))
            }
            Multiplier::Fixed { .. }
            | Multiplier::FixedAbsolute { .. }
            | Multiplier::Best { .. }
            | Multiplier::Q15Reduced => {
                let Some(fixed) = c.fixed else {
                    return Flagged::exact(0);
                };
                fixed.shown("multiplier", trace);
                fixed
                    .traced(acc, steps, self.rule.left_shift, self.width.bits, trace)
                    .and_then(|v| self.place(i128::from(v), trace))
            }
        }
    }

    /// An accumulator times a factor in `f32`, with the bias where the rule adds it.
    fn scaled_f32(&self, acc: i64, m: f32, c: &Channel, trace: &mut Trace) -> f32 {
        trace.step("multiplier", String::new, m);
        let x = acc as f32;
        if trace.is_on() && x as i64 != acc {
            trace.step("accumulator", || format!("{acc} as f32"), x);
        }
        let bias = match self.bias {
            BiasFormat::F32InAccumulator | BiasFormat::F32AfterScale => {
                trace.step("bias", || "as f32".into(), c.bias_f32)
            }
            _ => 0.0,
        };
        let times = |x: f32| short(x) + " * multiplier";
        match self.bias {
            BiasFormat::F32InAccumulator => {
                let x = trace.step("with bias", || short(x) + " + bias", x + bias);
                trace.step("scaled", || times(x), x * m)
            }
            BiasFormat::F32AfterScale => {
                let v = trace.step("scaled", || times(x), x * m);
                trace.step("with bias", || short(v) + " + bias", v + bias)
            }
            _ => trace.step("scaled", || times(x), x * m),
        }
    }

    /// Zero point and clamp of an integer.
    fn place(&self, v: i128, trace: &mut Trace) -> Flagged<i32> {
        let zero = match self.rule.zero_point {
            ZeroPointPosition::InBias => 0,
            _ => i128::from(self.out.zero_point),
        };
        let how = || format!("{v} + {zero}");
        let raw = trace.step("with zero point", how, v + zero);
        self.clamped(raw, trace)
    }

    /// The last clamp, and the stored label.
    fn clamped(&self, raw: i128, trace: &mut Trace) -> Flagged<i32> {
        let how = || format!("{raw} to {}..{}", self.lo, self.hi);
        let clamped = trace.flagged("clamped", how, num::clamp(raw, self.lo, self.hi));
        self.out.relabelled(clamped, trace)
    }

    /// Zero point, rounding and clamp of a real; `single`: its sums with the zero point are `f32`.
    fn round(&self, v: f64, rounding: Rounding, single: bool, trace: &mut Trace) -> Flagged<i32> {
        let zero = self.out.zero_point as f64;
        let inside = self.rule.zero_point == ZeroPointPosition::InsideRounding;
        let shown = |v: f64| {
            if single {
                Exact::F32(v as f32)
            } else {
                Exact::F64(v)
            }
        };
        let mut v = match (inside, single) {
            (true, true) => f64::from(v as f32 + zero as f32),
            (true, false) => v + zero,
            (false, _) => v,
        };
        if inside {
            trace.step("with zero point", || format!("+ {zero}"), shown(v));
        }
        let mut flags = Flags::default();
        if self.rule.clamp == ClampOrder::BeforeRounding {
            let shift = if inside { 0.0 } else { zero };
            let (lo, hi) = (self.lo as f64 - shift, self.hi as f64 - shift);
            let clamped = v.max(lo).min(hi);
            flags |= Flags::SATURATED.when(clamped != v);
            let how = || format!("{} to {lo}..{hi}", shown(v).short());
            let _ = trace.flagged("clamped", how, Flagged::new(shown(clamped), flags));
            v = clamped;
        }
        let rounded = num::round(v, rounding).flag(flags);
        trace.rounded(shown(v), v, rounding, rounded);
        rounded.and_then(|v| {
            let raw = v as i128 + if inside { 0 } else { zero as i128 };
            if !inside {
                trace.step("with zero point", || format!("{v} + {zero}"), raw);
            }
            self.clamped(raw, trace)
        })
    }
}

/// The roundings of a channel.
fn steps(rule: &Requantize, behind: bool) -> &[Step] {
    match &rule.tail {
        Some(tail) if behind => &tail.steps,
        _ => &rule.steps,
    }
}

/// The width of an accumulator; without one, 64 bits that nothing leaves.
pub fn width(accumulator: &Accumulator) -> Width {
    Width {
        bits: accumulator.bits.unwrap_or(64),
        overflow: match accumulator.bits {
            Some(_) => accumulator.overflow,
            None => Overflow::Saturate,
        },
    }
}

/// `M = sx * sw / sy`, in the precision and order of the rule.
fn derive(derivation: Derivation, x: f64, w: f64, y: f64) -> f64 {
    let product = x as f32 * w as f32;
    match derivation {
        Derivation::F64 => x * w / y,
        // What the scale of a signed input is, the planner knows.
        Derivation::F32 | Derivation::F32SignedRange => f64::from(product / y as f32),
        Derivation::F32ProductF64Quotient | Derivation::F32ProductPerTensor => {
            f64::from(product) / y
        }
    }
}

/// The power-of-two scale that an `int8` bias shares over all channels (DPU).
struct BiasScale(f64);

impl BiasScale {
    fn of(units: &[Unit]) -> Self {
        let max = units.iter().fold(0.0f64, |m, u| m.max(u.bias.abs()));
        Self(if max == 0.0 {
            1.0
        } else {
            libm::exp2(libm::ceil(libm::log2(max / 127.0)))
        })
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "one place binds all rules of a channel"
)]
fn channel(
    rule: &Requantize,
    bias: &Bias,
    unit: &Unit,
    m: f64,
    largest: f64,
    shared: &BiasScale,
    out: Labels,
    width: Width,
    behind: bool,
    wanted: bool,
) -> Result<Channel, String> {
    let product = unit.x * unit.w;
    let product_f32 = unit.x as f32 * unit.w as f32;
    let mut result = Channel {
        unit: product_f32,
        m,
        fixed: None,
        fast: None,
        shift: 0,
        bias: 0,
        bias_f32: 0.0,
        bias_exact: 0.0,
        behind,
        fake: None,
    };
    let to_i64 = |x: f64| num::round_f64(x, bias.rounding) as i64;
    match bias.format {
        BiasFormat::Int32 => {
            result.bias = match unit.code {
                Some(code) => code,
                None => num::saturate(to_i64(unit.bias / product).into(), 32).value,
            };
        }
        BiasFormat::Int32ReciprocalF32 => {
            // pytorch/pytorch aten/src/ATen/native/quantized/cpu/qconv.cpp: quantize_per_tensor of the bias.
            let code = f64::from(unit.bias as f32 * (1.0 / product_f32));
            result.bias = match unit.code {
                Some(code) => code,
                None => num::saturate(to_i64(code).into(), 32).value,
            };
        }
        BiasFormat::Int32WithZeroPoint => {
            // Both terms are f32 on the DSP (hexagon_nn, supernode_utils.h fill_bias_buf).
            let own = unit.bias as f32 / product_f32;
            let zero = (out.zero_point as f64 * out.scale) as f32 / product_f32;
            result.bias = num::saturate(to_i64(f64::from(own + zero)).into(), 32).value;
        }
        BiasFormat::F32InAccumulator => {
            result.bias_f32 = unit.bias as f32 / product_f32;
            result.bias_exact = f64::from(result.bias_f32) * m;
        }
        BiasFormat::F32AfterScale => {
            result.bias_exact = unit.bias / out.scale;
            result.bias_f32 = if matches!(rule.multiplier, Multiplier::F32) {
                unit.bias as f32 / out.scale_f32()
            } else {
                unit.bias as f32
            };
        }
        BiasFormat::Int8Shifted => {
            let code = num::saturate(to_i64(unit.bias / shared.0).into(), 8).value;
            let shift = num::power_of_two(shared.0 / product)
                .ok_or("a bias scale that is no power of two of the accumulator's unit")?;
            result.bias = if shift >= 0 {
                code << shift.min(40)
            } else {
                num::shift_right(code.into(), shift.unsigned_abs(), Rounding::HalfUp).value as i64
            };
        }
        BiasFormat::Int8Times128 => {
            let code = num::saturate(to_i64(unit.bias / (product * 128.0)).into(), 8).value;
            result.bias = code << 7;
        }
        BiasFormat::Exact => match rule.multiplier {
            Multiplier::F64 | Multiplier::Exact => {
                result.bias_exact = unit.bias / out.scale;
            }
            _ => return Err("an exact bias in an integer accumulator".into()),
        },
    }
    if !wanted {
        return Ok(result);
    }
    let signed = |fixed: FixedMultiplier| FixedMultiplier {
        mantissa: if m < 0.0 {
            -fixed.mantissa
        } else {
            fixed.mantissa
        },
        ..fixed
    };
    result.fixed = match rule.multiplier {
        Multiplier::Fixed { bits, rounding } => Some(signed(
            FixedMultiplier::from_real(m.abs(), bits, rounding).value,
        )),
        Multiplier::Best { bits } => Some(signed(FixedMultiplier::best(m.abs(), bits))),
        Multiplier::Q15Reduced => Some(signed(
            FixedMultiplier::from_real(m.abs(), 31, Rounding::HalfAway)
                .value
                .q15_reduced(),
        )),
        Multiplier::FixedAbsolute { bits, rounding } => {
            let exponent = if largest <= 1.0 {
                0
            } else {
                libm::frexp(largest).1
            };
            let scaled = libm::ldexp(m.abs(), bits as i32 - exponent);
            let top = (1i64 << bits) - 1;
            let mantissa = (num::round_f64(scaled, rounding) as i64).min(top);
            Some(signed(FixedMultiplier {
                mantissa,
                exponent,
                bits,
            }))
        }
        _ => None,
    };
    if let Multiplier::F32Reduced { bits, rounding } | Multiplier::F64Reduced { bits, rounding } =
        rule.multiplier
    {
        let reduced = FixedMultiplier::from_real(m.abs(), bits, rounding).value;
        result.m = reduced.to_real().copysign(m);
    }
    result.fast = result
        .fixed
        .and_then(|f| f.fast(steps(rule, behind), rule.left_shift, width.bits));
    if rule.multiplier == Multiplier::PowerOfTwo {
        result.shift = -num::power_of_two(m)
            .ok_or_else(|| format!("a multiplier {m:e} that is no power of two"))?;
    }
    Ok(result)
}
