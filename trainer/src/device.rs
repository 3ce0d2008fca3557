//! Where a fit is computed: on the processor, or on a graphics card through wgpu.

use burn::tensor::Device;
use std::str::FromStr;

/// Where a fit is computed. The weights of a seed differ from one to the other: by rounding, and by what is drawn, for a
/// graphics card takes a batch whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeDevice {
    /// All cores of the processor.
    #[default]
    Cpu,
    /// The graphics card that wgpu likes best. Run on Vulkan in software alone (llvmpipe), where it learns what the
    /// processor does: no card was at hand.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// Why there is no such device.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// No such name.
    #[error("expected device cpu or wgpu, found {0}")]
    Unknown(String),
    /// This program cannot.
    #[error(
        "expected a build with wgpu for device wgpu (cargo build --release -p ndt-trainer --features wgpu), found one \
         without"
    )]
    NotBuilt,
}

impl ComputeDevice {
    /// Burn's device, without autodiff.
    pub fn device(self) -> Device {
        match self {
            ComputeDevice::Cpu => Device::flex(),
            #[cfg(feature = "wgpu")]
            ComputeDevice::Wgpu => Device::wgpu(burn::tensor::DeviceKind::DefaultDevice),
        }
    }
}

impl FromStr for ComputeDevice {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        match name {
            "cpu" => Ok(ComputeDevice::Cpu),
            #[cfg(feature = "wgpu")]
            "wgpu" => Ok(ComputeDevice::Wgpu),
            #[cfg(not(feature = "wgpu"))]
            "wgpu" => Err(DeviceError::NotBuilt),
            other => Err(DeviceError::Unknown(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_is_not_there_is_refused_with_what_to_do() {
        assert_eq!("cpu".parse(), Ok(ComputeDevice::Cpu));
        let refused = |name: &str| name.parse::<ComputeDevice>().map_err(|error| error.to_string());
        assert_eq!(refused("tpu"), Err("expected device cpu or wgpu, found tpu".to_owned()));
        #[cfg(not(feature = "wgpu"))]
        assert!(refused("wgpu").is_err_and(|error| error.contains("--features wgpu")));
    }
}
