//! QNNPACK's addition of `uint8` codes (pytorch/pytorch
//! `aten/src/ATen/native/quantized/cpu/qnnpack/src/qnnpack/requantization.h`, `pytorch_qnnp_compute_add_quantization_params`
//! and `pytorch_qnnp_add_quantize`).

use align_check_specs::Rounding;

use super::Labels;
use crate::num::{self, Trace};

/// Bits below the leading one of the larger multiplier.
const FRACTION: i32 = 21;

/// Multipliers with one shift.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Add {
    inputs: [Labels; 2],
    out: Labels,
    multipliers: [i64; 2],
    shift: u32,
}

impl Add {
    /// Binds the rule to its grids. `None`: scales beyond those that the kernel takes.
    pub fn new(inputs: [Labels; 2], out: Labels) -> Option<Self> {
        let ratios = inputs.map(|x| f64::from(x.scale_f32() / out.scale_f32()));
        // frexp's exponent is one above the floor of the logarithm.
        let shift = FRACTION - (libm::frexp(ratios[0].max(ratios[1])).1 - 1);
        let shift = u32::try_from(shift)
            .ok()
            .filter(|shift| (1..31).contains(shift))?;
        let unit = libm::exp2(f64::from(shift));
        Some(Self {
            inputs,
            out,
            multipliers: ratios.map(|r| num::round_f64(r * unit, Rounding::HalfEven) as i64),
            shift,
        })
    }

    /// The stored code of a sum.
    pub fn code(&self, a: i32, b: i32, trace: &mut Trace) -> i32 {
        let va = self.inputs[0].traced_steps("first", a, trace);
        let vb = self.inputs[1].traced_steps("second", b, trace);
        let [ma, mb] = self.multipliers;
        let how = || format!("{va} * {ma} + {vb} * {mb}");
        let sum = trace.step("sum", how, va * ma + vb * mb);
        let v = num::shift_right_i64(sum, self.shift, Rounding::HalfAway);
        if trace.is_on() {
            // The definition, which the fast shift is held equal to.
            let shifted = trace.shift_right(sum.into(), self.shift, Rounding::HalfAway);
            debug_assert_eq!(shifted.value, i128::from(v));
        }
        self.out.placed(v, trace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pytorch_qnnp_add_quantize` as the kernel has it: a mask, a remainder and a threshold.
    fn definition(add: &Add, a: i64, b: i64) -> i64 {
        let [ma, mb] = add.multipliers;
        let acc = (a - add.inputs[0].zero_point) * ma + (b - add.inputs[1].zero_point) * mb;
        let mask = (1i64 << add.shift) - 1;
        let remainder = (acc & mask) - i64::from(acc < 0);
        let rounded = (acc >> add.shift) + i64::from(remainder > mask >> 1);
        (rounded + add.out.zero_point).clamp(add.out.min, add.out.max)
    }

    #[test]
    fn every_pair_is_the_kernels() {
        let grid = |scale: f32, zero_point| Labels {
            scale: f64::from(scale),
            zero_point,
            min: 0,
            max: 255,
            relabel: 0,
        };
        let sets = [
            [grid(0.5, 131), grid(0.25, 7), grid(1.0, 77)],
            [grid(0.1, 0), grid(0.3, 255), grid(0.4, 3)],
            [grid(0.0173, 99), grid(0.0411, 201), grid(0.000_53, 0)],
        ];
        for [a, b, out] in sets {
            let add = Add::new([a, b], out).expect("scales that the kernel takes");
            let largest = add.multipliers.iter().max().expect("two");
            assert!((1 << 21..=1 << 22).contains(largest), "{largest}");
            for qa in 0..256 {
                for qb in 0..256 {
                    let wanted = definition(&add, i64::from(qa), i64::from(qb));
                    assert_eq!(
                        i64::from(add.code(qa, qb, &mut Trace::off())),
                        wanted,
                        "{qa} {qb}"
                    );
                }
            }
        }
        assert!(Add::new([grid(1.0, 0); 2], grid(1e-8, 0)).is_none());
    }
}
