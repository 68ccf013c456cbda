//! What vendors published together with the outputs of their own software or hardware, reproduced: models that
//! lie in `../shared/recordings`, each read by a small reader here.
//!
//! Every test is skipped, visibly, where `../shared` is absent.

mod cmsis_nn;
mod dory;
mod esp_dl;
mod espdl_file;
mod max78000;
mod torch;
