//! QONNX `BipolarQuant`: `(x >= 0 ? 1 : -1) * scale`.
//!
//! Source: qonnx 1.0.0 `custom_op/general/bipolar_quant.py`. Zero becomes +1, NaN becomes -1.

/// +1 or -1.
#[inline]
pub fn sign(x: f32) -> f32 {
    if x >= 0.0 { 1.0 } else { -1.0 }
}
