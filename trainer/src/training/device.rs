//! The device that computes a fit: the processor, or a graphics card through wgpu.

use burn::tensor::Device;
use std::str::FromStr;

/// The device that computes a fit. The weights of a seed differ between devices, by rounding and because dropout is
/// drawn in another order: a graphics card takes a batch in whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ComputeDevice {
    /// All cores of the processor.
    #[default]
    Cpu,
    /// The graphics card that wgpu prefers. It has been run on software Vulkan (llvmpipe) only, where it fits as well
    /// as the processor; no graphics card was at hand.
    #[cfg(feature = "wgpu")]
    Wgpu,
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DeviceError {
    /// There is no device of this name.
    #[error("expected device cpu or wgpu, found {0}")]
    Unknown(String),
    /// This program was built without the device.
    #[error(
        "expected a build with wgpu for device wgpu (cargo build --release -p ndt-trainer --features wgpu), found one \
         without"
    )]
    NotBuilt,
}

impl ComputeDevice {
    /// Burn's device, without automatic differentiation.
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
