//! NVDLA's integer arithmetic: convolution, single data processor, pooling and LRN, as functional units.
//!
//! A unit holds what its registers hold, under the registers' names, and computes one value, one window
//! or one pixel; [`conv::Geometry::accumulate`] and [`pdp::Pooling::plane`] walk over a tensor. INT8 and
//! INT16; FP16, Winograd, image input and weight compression are not here. There is no memory layout
//! either: surfaces, atoms and kernel groups are the business of whoever reads memory images.
//!
//! Sources, all of `nvdla/hw@1a65f1f5` (branch master) unless they say otherwise: `spec/manual/*.rdl`
//! (registers and their widths), `cmod/` (the C model), `vmod/` (the RTL); branch `nvdlav1` is
//! `nvdla/hw@8e06b1b9`. `tests/nvdla_traces.rs` holds the units to NVIDIA's own test plan, and shows
//! which neighbouring rules fail it.

pub mod cdp;
pub mod conv;
pub mod lut;
pub mod pdp;
pub mod sdp;

#[cfg(test)]
mod tests;

use align_check_specs::Rounding;

use crate::num::{Flagged, saturate, shift_right};

/// How every stage of NVDLA rounds: to nearest, ties away from zero (`AC_RND_INF` of
/// `cmod/hls/include/nvdla_common.h`).
///
/// The units have it as a field, so that a test can show that a neighbouring rule fails.
pub const ROUNDING: Rounding = Rounding::HalfAway;

/// `sat(round(x / 2^shift))`, saturated to a signed integer of `bits` bits: how most stages end
/// (`IntShiftRight` of `cmod/hls/include/nvdla_int.h`).
///
/// # Panics
/// If `bits` is not in `1..=64`.
pub fn shift_right_saturate(x: i128, shift: u32, rounding: Rounding, bits: u32) -> Flagged<i64> {
    shift_right(x, shift, rounding).and_then(|x| saturate(x, bits))
}

/// A converter: `sat(round((x - offset) * scale / 2^shift))`. The offset is subtracted first, nothing
/// is rounded or saturated before the shift.
///
/// | where | offset | scale | shift | result |
/// |---|---|---|---|---|
/// | SDP output | int32 | int16 | 6 bits | 17 bits, then the output's |
/// | SDP Y operand from memory | int32 | int16 | 6 bits | 32 bits |
/// | CDP input, INT8 | int8 | int16 | 5 bits | 9 bits |
/// | CDP input, INT16 | int16 | int16 | 5 bits | 17 bits |
/// | CDP output, INT8 | int25 | int16 | 6 bits | 8 bits |
/// | CDP output, INT16 | int32 | int16 | 6 bits | 16 bits |
///
/// The scale is signed. The documentation (`nvdla/doc` `hw/v1/ias/precision.rst`) gives the shift of a
/// converter 5 bits; the SDP's register and two tests of the test plan have 6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converter {
    /// Subtracted from the input.
    pub offset: i32,
    /// Factor.
    pub scale: i16,
    /// Bits dropped from the product.
    pub shift: u32,
    /// Rounding of the shift; [`ROUNDING`] on NVDLA.
    pub rounding: Rounding,
}

impl Converter {
    /// The converter that only saturates.
    pub const IDENTITY: Self = Self {
        offset: 0,
        scale: 1,
        shift: 0,
        rounding: ROUNDING,
    };

    /// Converts to a signed integer of `bits` bits.
    pub fn apply(&self, x: i64, bits: u32) -> Flagged<i64> {
        let product = (i128::from(x) - i128::from(self.offset)) * i128::from(self.scale);
        shift_right_saturate(product, self.shift, self.rounding, bits)
    }
}
