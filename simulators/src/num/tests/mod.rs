//! Tests of the rules against independent slow definitions, published tables and other software's formulas.

mod ap_fixed;
mod fixed_type;
mod flags;
mod multiplier;
mod patterns;
mod rounding;
mod slow;
mod tflite;
mod width;
