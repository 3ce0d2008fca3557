//! The table `[onnx]` of `ndtd.toml`.

use ndt_protocol::limits::range_problem;
use serde::{Deserialize, Serialize};

/// Most threads that may share an operator: a step is too small for more.
const THREADS_MAX: usize = 64;

/// Most bins of warm-up: a minute of 1 ms bins. The first three steps are slow: 4,000, 250 and 130 us where later
/// ones took 120.
const WARM_UP_BINS_MAX: usize = 60_000;

/// The device on which ONNX Runtime computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, through ONNX Runtime's CUDA provider. Not measured: no machine of ours has one.
    Cuda,
}

/// Options of the `onnx` engine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OnnxSettings {
    /// Device that computes.
    pub provider: Provider,
    /// Number of the GPU, as `nvidia-smi` counts them.
    pub cuda_device: i32,
    /// Threads that share one operator, the decode thread included.
    pub intra_op_threads: usize,
    /// Whether these threads spin between two operators, which keeps their CPUs from the rig's other programs.
    pub intra_op_spinning: bool,
    /// Steps that are run and discarded before the first bin.
    pub warm_up_bins: usize,
}

impl Default for OnnxSettings {
    fn default() -> Self {
        OnnxSettings {
            provider: Provider::Cpu,
            cuda_device: 0,
            intra_op_threads: 1,
            intra_op_spinning: false,
            warm_up_bins: 10,
        }
    }
}

impl OnnxSettings {
    /// Returns a sentence for each value that cannot be used.
    pub fn problems(&self) -> Vec<String> {
        let problems = [
            range_problem("onnx.cuda-device", self.cuda_device, 0, i32::MAX),
            range_problem("onnx.intra-op-threads", self.intra_op_threads, 1, THREADS_MAX),
            range_problem("onnx.warm-up-bins", self.warm_up_bins, 0, WARM_UP_BINS_MAX),
        ];
        problems.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_all_at_once() {
        assert_eq!(OnnxSettings::default().problems(), Vec::<String>::new());
        let settings = OnnxSettings {
            cuda_device: -1,
            intra_op_threads: 0,
            warm_up_bins: 1 << 20,
            ..OnnxSettings::default()
        };
        assert_eq!(
            settings.problems(),
            [
                "expected onnx.cuda-device from 0 to 2147483647, found -1",
                "expected onnx.intra-op-threads from 1 to 64, found 0",
                "expected onnx.warm-up-bins from 0 to 60000, found 1048576",
            ]
        );
    }
}
