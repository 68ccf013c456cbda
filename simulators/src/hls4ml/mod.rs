//! hls4ml's C simulation: every layer in the fixed-point types of a precision table.
//!
//! Sources: hls4ml 1.3.0 wheel, `templates/vivado/nnet_utils/` (`nnet_dense_latency.h`,
//! `nnet_dense_resource.h`, `nnet_activation.h`, `nnet_batchnorm.h`, `nnet_merge.h`), `templates/vitis/nnet_utils/`
//! (`nnet_conv2d_latency.h`, `nnet_conv2d_resource.h`, `nnet_pooling.h`); recordings in `golden/hls4ml`.
//!
//! [`Precision`] is the table; [`plan`] turns it into the plans of a network that was cut at the table's tensors
//! ([`Network::cut_at`](crate::Network::cut_at)); a [`Fixed`] runs one layer.

mod plan;
mod precision;
mod step;
mod sum;

pub use plan::plan;
pub use precision::{ActivationName, Kind, Precision, Strategy, Table};
pub(crate) use step::read;
pub use step::{Core, Fixed, Scale};
pub use sum::Sum;
