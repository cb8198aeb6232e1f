//! The operators, one a file: each checks shapes, chooses a kernel and becomes a [`Dispatch`](crate::Dispatch), and
//! runs on host slices through the same dispatches.

pub(crate) mod argmax;
pub(crate) mod binary_cross_entropy;
pub(crate) mod boundary_score;
pub(crate) mod calibration;
pub(crate) mod class_statistics;
pub(crate) mod confusion_matrix;
pub(crate) mod cross_entropy;
pub(crate) mod focal_loss;
pub(crate) mod inspect;
pub(crate) mod interpolate;
pub(crate) mod label_codes;
pub(crate) mod loss;
pub(crate) mod loss_sum;
pub(crate) mod multi_label;
pub(crate) mod overlay;
pub(crate) mod region_loss;
pub(crate) mod resize;
pub(crate) mod segment;
pub(crate) mod sigmoid;
pub(crate) mod soft_mask;
pub(crate) mod softmax;
pub(crate) mod temporal_smoothing;
pub(crate) mod top_k;
pub(crate) mod upsample;
pub(crate) mod upsampled_cross_entropy;
