use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use dps_dev::ControlPlane;
use serde::Deserialize;
use serde_json::json;

use super::failure::Failure;

/// The ConfigMap with the certificate of the simulator's CA.
pub(super) const CA_BUNDLE: &str = "simulator-ca";
/// The name of the key of a device's Secret, unless the device says otherwise.
const CONNECTION_STRING: &str = "connectionString";
/// How many characters of a key are shown.
const SHOWN: usize = 4;

#[derive(Debug, Deserialize)]
struct List {
    items: Vec<Device>,
}

/// The fields of a ProvisionedDevice that the demo reads.
#[derive(Debug, Deserialize)]
pub(super) struct Device {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Spec {
    #[serde(default)]
    secret: SecretSettings,
}

#[derive(Debug, Default, Deserialize)]
struct SecretSettings {
    #[serde(default)]
    keys: SecretKeys,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SecretKeys {
    connection_string: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    id_scope: String,
    registration_id: String,
    assigned_hub: String,
    secret: SecretStatus,
}

#[derive(Debug, Deserialize)]
struct SecretStatus {
    name: String,
}

impl Device {
    pub(super) fn name(&self) -> &str {
        &self.metadata.name
    }

    pub(super) fn id(&self) -> &str {
        &self.status.registration_id
    }

    pub(super) fn id_scope(&self) -> &str {
        &self.status.id_scope
    }

    pub(super) fn hub(&self) -> &str {
        &self.status.assigned_hub
    }

    pub(super) fn secret_name(&self) -> &str {
        &self.status.secret.name
    }

    /// The command that reads its connection string.
    pub(super) fn connection_string_command(&self) -> String {
        format!("kubectl get secret {} -n fleet -o go-template='{}'", self.secret_name(), self.template())
    }

    fn template(&self) -> String {
        let key = self.spec.secret.keys.connection_string.as_deref().unwrap_or(CONNECTION_STRING);
        format!("{{{{.data.{key} | base64decode}}}}")
    }
}

/// The connection string of a device. Its key is neither in `Debug` nor on the screen.
pub(super) struct ConnectionString {
    before: String,
    key: String,
    after: String,
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

impl ConnectionString {
    fn parse(text: &str) -> Option<Self> {
        const LABEL: &str = ";SharedAccessKey=";
        let (before, rest) = text.split_once(LABEL)?;
        let (key, after) = rest.split_at(rest.find(';').unwrap_or(rest.len()));
        Some(Self { before: format!("{before}{LABEL}"), key: key.to_owned(), after: after.to_owned() })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    pub(super) fn masked(&self) -> String {
        let start: String = self.key.chars().take(SHOWN).collect();
        let length = self.key.chars().count();
        format!("{}{start}…({length} characters){}", self.before, self.after)
    }
}

/// Writes the manifests of `examples/`, changed only in the host name and the CA of DPS; returns the file.
pub(super) fn examples(
    control_plane: &ControlPlane,
    checkout: &Path,
    dps_host: &str,
) -> Result<PathBuf, Failure> {
    let examples = checkout.join("examples");
    let resources = ["group-key.yaml", "integration.yaml", "devices.yaml"].map(|file| examples.join(file));
    let patch = json!([
        { "op": "add", "path": "/spec/hostname", "value": dps_host },
        { "op": "add", "path": "/spec/caBundleRef", "value": { "name": CA_BUNDLE } },
    ]);
    let kustomization = json!({
        "resources": resources,
        "patches": [{ "target": { "kind": "DpsIntegration" }, "patch": patch.to_string() }],
    });
    let folder = control_plane.directory().join("examples");
    fs::create_dir(&folder)?;
    fs::write(folder.join("kustomization.yaml"), kustomization.to_string())?;
    // By default kustomize reads only files below its own folder.
    let manifest = control_plane.kubectl_ok(&[
        "kustomize",
        "--load-restrictor=LoadRestrictionsNone",
        &folder.to_string_lossy(),
    ])?;
    let file = folder.join("examples.yaml");
    fs::write(&file, manifest)?;
    Ok(file)
}

/// The devices of the namespace `fleet`.
pub(super) fn devices(control_plane: &ControlPlane) -> Result<Vec<Device>, Failure> {
    let printed = control_plane.kubectl_ok(&["get", "pdev", "-n", "fleet", "-o", "json"])?;
    let list: List = serde_json::from_str(&printed).map_err(|error| Failure::Json("kubectl", error))?;
    Ok(list.items)
}

/// The connection string in the device's Secret.
pub(super) fn connection_string(
    control_plane: &ControlPlane,
    device: &Device,
) -> Result<ConnectionString, Failure> {
    let template = format!("go-template={}", device.template());
    let printed =
        control_plane.kubectl_ok(&["get", "secret", device.secret_name(), "-n", "fleet", "-o", &template])?;
    ConnectionString::parse(&printed).ok_or_else(|| Failure::Secret {
        device: device.id().to_owned(),
        problem: "its connection string has no SharedAccessKey",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_shows_four_characters_of_its_key() {
        let text = "HostName=h;DeviceId=d;SharedAccessKey=c2VjcmV0LWtleQ==;GatewayHostName=g";
        let connection = ConnectionString::parse(text).unwrap();

        assert_eq!(connection.key(), "c2VjcmV0LWtleQ==");
        let masked = "HostName=h;DeviceId=d;SharedAccessKey=c2Vj…(16 characters);GatewayHostName=g";
        assert_eq!(connection.masked(), masked);
        assert_eq!(format!("{connection:?}"), masked);
    }

    #[test]
    fn what_has_no_key_is_no_connection_string() {
        assert!(ConnectionString::parse("HostName=h;DeviceId=d").is_none());
    }
}
