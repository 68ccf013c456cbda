//! Recordings of arithmetic without a model: numbers in, numbers out, from `golden/`.

mod gfpq;
mod hvx;
mod tvm;
