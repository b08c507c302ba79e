//! What a name on the command line means.

use std::str::FromStr;

/// An object that was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// By its name alone.
    Named(String),
    Integration(String),
    Device(String),
}

/// The text names no object.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadTarget {
    #[error("\"{0}\" is no kind of this operator; write device/NAME or integration/NAME")]
    Kind(String),
    #[error("the name is empty")]
    Empty,
}

impl FromStr for Target {
    type Err = BadTarget;

    /// As kubectl names kinds, and in the words of the documentation.
    fn from_str(text: &str) -> Result<Self, BadTarget> {
        let (kind, name) = text.split_once('/').map_or((None, text), |(kind, name)| (Some(kind), name));
        if name.is_empty() {
            return Err(BadTarget::Empty);
        }
        let name = name.to_owned();
        let Some(kind) = kind else { return Ok(Self::Named(name)) };
        let kind = kind.to_lowercase();
        match kind.strip_suffix(".dps-operator.io").unwrap_or(&kind) {
            "device" | "devices" | "pdev" | "provisioneddevice" | "provisioneddevices" => {
                Ok(Self::Device(name))
            }
            "integration" | "integrations" | "dpsi" | "dpsintegration" | "dpsintegrations" => {
                Ok(Self::Integration(name))
            }
            _ => Err(BadTarget::Kind(kind)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_named_as_kubectl_names_them() {
        let (device, integration) = (Target::Device("a".to_owned()), Target::Integration("a".to_owned()));
        let cases = [
            ("a", Ok(Target::Named("a".to_owned()))),
            ("device/a", Ok(device.clone())),
            ("pdev/a", Ok(device.clone())),
            ("ProvisionedDevices.dps-operator.io/a", Ok(device)),
            ("integration/a", Ok(integration.clone())),
            ("dpsi/a", Ok(integration)),
            ("pod/a", Err(BadTarget::Kind("pod".to_owned()))),
            ("device/", Err(BadTarget::Empty)),
        ];
        for (text, wanted) in cases {
            assert_eq!(text.parse::<Target>(), wanted, "{text}");
        }
    }
}
