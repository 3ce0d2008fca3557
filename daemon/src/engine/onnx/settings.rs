//! The table `[onnx]` of `ndtd.toml`.

use serde::{Deserialize, Serialize};

/// More is a mistaken unit or a wish that no bin can fulfil: a step is too small for many threads.
const THREADS_MAX: usize = 64;

/// A minute of 1 ms bins. The first three steps are slow: 4,000, 250 and 130 us where the later ones took 120.
const WARM_UP_BINS_MAX: usize = 60_000;

/// What ONNX Runtime computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provider {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU. Written against the interface of ONNX Runtime's CUDA provider and measured on none: no machine of
    /// ours has one.
    Cuda,
}

/// How the `onnx` engine runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct OnnxSettings {
    /// What computes.
    pub provider: Provider,
    /// Which GPU, as `nvidia-smi` counts them.
    pub cuda_device: i32,
    /// Threads that share one operator, the decode thread among them.
    pub intra_op_threads: usize,
    /// Whether those threads spin between two operators, which takes their CPUs from the rig's other programs.
    pub intra_op_spinning: bool,
    /// Steps that are run and forgotten before the first bin.
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
    /// What cannot be, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut expect = |name: &str, found: i64, low: i64, high: i64| {
            if !(low..=high).contains(&found) {
                problems.push(format!("expected onnx.{name} from {low} to {high}, found {found}"));
            }
        };
        let number = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        expect("cuda-device", self.cuda_device.into(), 0, i32::MAX.into());
        expect("intra-op-threads", number(self.intra_op_threads as u64), 1, THREADS_MAX as i64);
        expect("warm-up-bins", number(self.warm_up_bins as u64), 0, WARM_UP_BINS_MAX as i64);
        problems
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
