//! Operations on tensors, independent of any target.

pub mod constant;
pub mod linear;
pub mod movement;
pub mod real;
pub mod window;
