//! On which device a run's policy computes.

use crate::run_error::RunError;
use dapo_policy::{Decoder, Device, cuda_device_count};
use std::fmt;
use std::str::FromStr;

/// What `model.device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The first GPU where there is one that runs the model, else the processor.
    #[default]
    Auto,
    /// This device and no other.
    Exactly(Device),
}

impl DeviceChoice {
    /// Where [`place`] puts a policy, as far as that can be said without one.
    pub fn expected(self) -> Device {
        match self {
            Self::Exactly(device) => device,
            Self::Auto if cuda_device_count() > 0 => Device::Cuda(0),
            Self::Auto => Device::Cpu,
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = RunError;

    /// Reads `auto`, `cpu`, `cuda` or `cuda:n`.
    fn from_str(text: &str) -> Result<Self, RunError> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let wrong = |_| RunError::setting("model.device", text, "auto, cpu, cuda or cuda:n");
        text.parse().map(Self::Exactly).map_err(wrong)
    }
}

/// Where a policy went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The device.
    pub device: Device,
    /// Why not a GPU, where one might have been expected.
    pub fallback: Option<String>,
}

impl fmt::Display for Placed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.fallback {
            Some(why) => write!(f, "{} ({why})", self.device),
            None => self.device.fmt(f),
        }
    }
}

/// Moves a policy to the device that was asked for.
///
/// # Errors
/// When it was asked for by name and cannot be used.
pub fn place(policy: &mut Decoder, choice: DeviceChoice) -> Result<Placed, RunError> {
    let fallback = match choice {
        DeviceChoice::Exactly(device) => {
            policy.to_device(device)?;
            return Ok(Placed { device, fallback: None });
        }
        // A build without GPU code was chosen when it was built.
        DeviceChoice::Auto if !cfg!(feature = "cuda") => None,
        DeviceChoice::Auto if cuda_device_count() == 0 => Some("no GPU was found".to_owned()),
        DeviceChoice::Auto => match policy.to_device(Device::Cuda(0)) {
            Ok(()) => return Ok(Placed { device: Device::Cuda(0), fallback: None }),
            Err(error) => Some(format!("not on the GPU: {error}")),
        },
    };
    Ok(Placed { device: Device::Cpu, fallback })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_by_name() {
        let read = |text: &str| text.parse::<DeviceChoice>().map_err(|error| error.to_string());
        assert_eq!(read("auto"), Ok(DeviceChoice::Auto));
        assert_eq!(read("cpu"), Ok(DeviceChoice::Exactly(Device::Cpu)));
        assert_eq!(read("cuda:3"), Ok(DeviceChoice::Exactly(Device::Cuda(3))));
        for wrong in ["gpu", "cuda:", "cuda:x", ""] {
            assert!(read(wrong).is_err_and(|error| error.contains("auto, cpu, cuda or cuda:n")), "{wrong}");
        }
    }
}
