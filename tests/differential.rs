//! Fast paths against their definitions, on cases that bytes spell: for `tests/mutations.rs` and for `fuzz/`.

use align_check_simulators::kernels::{ConvShape, Isa, PackedWeights, conv_in_order, conv_u8i8};
use align_check_simulators::num::FixedMultiplier;
use align_check_specs::{LeftShift, Overflow, Rounding, Shift, Step};

/// Most products of one convolution.
const MACS: usize = 1 << 16;

/// Values that bytes spell; zeros at their end.
struct Source<'a>(std::slice::Iter<'a, u8>);

impl Source<'_> {
    fn byte(&mut self) -> u8 {
        self.0.next().copied().unwrap_or(0)
    }

    /// From 1 to `most`.
    fn extent(&mut self, most: usize) -> usize {
        1 + usize::from(self.byte()) % most
    }

    fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn word(&mut self) -> i32 {
        i32::from_le_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
}

/// The exact kernel of every instruction set of this machine, and the one that adds in order.
///
/// # Panics
/// They differ.
pub fn convolution(bytes: &[u8]) {
    let mut source = Source(bytes.iter());
    let groups = source.extent(8);
    let depthwise = source.byte() & 1 == 1;
    let channels = groups * if depthwise { 1 } else { source.extent(24) };
    let out_channels = groups
        * if depthwise {
            source.extent(2)
        } else {
            source.extent(24)
        };
    let kernel = [source.extent(5), source.extent(5)];
    let strides = [source.extent(3), source.extent(3)];
    let dilations = [source.extent(2), source.extent(2)];
    let pads = [source.below(4), source.below(4)];
    let (height, width) = (source.extent(40), source.extent(80));
    // Any output size is defined: positions outside of the image read the padding.
    let out = |size: usize, at: usize| {
        let reach = (kernel[at] - 1) * dilations[at] + 1;
        (size + 2 * pads[at]).saturating_sub(reach) / strides[at] + 1
    };
    let shape = ConvShape {
        channels,
        height,
        width,
        out_channels,
        out_height: out(height, 0),
        out_width: out(width, 1),
        kernel,
        strides,
        pads,
        dilations,
        groups,
    };
    if shape.macs() > MACS {
        return;
    }
    let pad = source.byte();
    // Extremes, where a sum would saturate first, or what the bytes say.
    let (fixed_x, fixed_w) = match source.below(4) {
        0 => (Some(255), Some(-128)),
        1 => (Some(255), Some(127)),
        _ => (None, None),
    };
    let x: Vec<u8> = (0..channels * height * width)
        .map(|i| fixed_x.unwrap_or_else(|| source.byte().wrapping_add((i * 37) as u8)))
        .collect();
    let weights: Vec<i8> = (0..out_channels * shape.taps())
        .map(|i| fixed_w.unwrap_or_else(|| source.byte().wrapping_add((i * 101) as u8) as i8))
        .collect();
    let wide = |x: &[u8]| x.iter().map(|&x| i32::from(x)).collect::<Vec<_>>();
    let wide_weights: Vec<i32> = weights.iter().map(|&w| i32::from(w)).collect();
    let mut expected = vec![0; out_channels * shape.positions()];
    conv_in_order(
        &shape,
        &wide(&x),
        i32::from(pad),
        &wide_weights,
        &vec![0; out_channels],
        64,
        Overflow::Exact,
        true,
        &mut expected,
    );
    for isa in Isa::available() {
        let packed = PackedWeights::new(isa, &shape, &weights);
        let mut found = vec![i32::MIN; expected.len()];
        conv_u8i8(&shape, &x, pad, &packed, &mut found);
        let same = found
            .iter()
            .zip(&expected)
            .all(|(&a, &b)| i64::from(a) == b);
        assert!(same, "{isa:?} {shape:?}");
    }
}

/// The fast form of a fixed-point multiplier, and its definition on 128 bits.
///
/// # Panics
/// They differ.
pub fn multiplier(bytes: &[u8]) {
    let mut source = Source(bytes.iter());
    let bits = source.extent(31) as u32;
    let top = 1i64 << (bits - 1);
    let mantissa = top | (i64::from(source.word()) & (top - 1));
    let exponent = source.below(80) as i32 - 48;
    let multiplier = FixedMultiplier {
        mantissa,
        exponent,
        bits,
    };
    let left = [LeftShift::Wrap, LeftShift::Saturate, LeftShift::Exact][source.below(3)];
    let steps: Vec<Step> = (0..source.extent(2))
        .map(|_| Step {
            shift: match source.below(3) {
                0 => Shift::By(source.below(40) as u32),
                _ => Shift::Rest,
            },
            rounding: Rounding::ALL[source.below(Rounding::ALL.len())],
            saturate: (source.below(4) == 0).then_some(32),
        })
        .collect();
    let Some(fast) = multiplier.fast(&steps, left, 32) else {
        return;
    };
    for _ in 0..source.extent(16) {
        let drawn = source.word();
        // Near the sum that becomes a tie, where roundings differ.
        let tie = 1i64.checked_shl(source.below(31) as u32).unwrap_or(0) as i32;
        for acc in [
            drawn,
            drawn >> 16,
            tie,
            tie.wrapping_neg(),
            drawn.wrapping_mul(tie),
            i32::MIN,
            i32::MAX,
        ] {
            let expected = multiplier.apply(i64::from(acc), &steps, left, 32).value;
            assert_eq!(
                fast.apply(acc),
                expected,
                "{multiplier:?} {steps:?} {left:?} {acc}"
            );
        }
    }
}
