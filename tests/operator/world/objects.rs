//! Objects of the test's namespace: made, read, changed, and waited for.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::operator::ACCOUNTS;
use super::waiting::until;
use super::{POLL, World};

/// The kinds that tests touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Device,
    Integration,
    Secret,
    ConfigMap,
    /// An operator's ServiceAccount.
    Account,
    RoleBinding,
    ClusterRoleBinding,
    Namespace,
    Event,
    /// Of cert-manager.
    Certificate,
}

impl Kind {
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::Device => ("dps-operator.io", "v1alpha1", "ProvisionedDevice", "provisioneddevices"),
            Self::Integration => ("dps-operator.io", "v1alpha1", "DpsIntegration", "dpsintegrations"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Account => ("", "v1", "ServiceAccount", "serviceaccounts"),
            Self::RoleBinding => ("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings"),
            Self::ClusterRoleBinding => {
                ("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings")
            }
            Self::Namespace => ("", "v1", "Namespace", "namespaces"),
            Self::Event => ("events.k8s.io", "v1", "Event", "events"),
            Self::Certificate => ("cert-manager.io", "v1", "Certificate", "certificates"),
        };
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version,
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        }
    }
}

/// One condition of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub status: String,
    pub reason: String,
    pub message: String,
}

impl Condition {
    pub fn is_true(&self) -> bool {
        self.status == "True"
    }
}

/// The condition of this type; none if the object has it not.
pub fn condition(object: &Value, kind: &str) -> Option<Condition> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |key: &str| found[key].as_str().unwrap_or_default().to_owned();
    Some(Condition { status: text("status"), reason: text("reason"), message: text("message") })
}

/// The operator has said nothing of it yet.
pub fn is_pending(object: &Value) -> bool {
    ready_reason(object) == "Pending"
}

/// The reason of `Ready`.
pub fn ready_reason(object: &Value) -> String {
    condition(object, "Ready").map(|ready| ready.reason).unwrap_or_default()
}

/// Whether `Ready` is true for the present spec.
pub fn is_ready(object: &Value) -> bool {
    is_observed(object) && condition(object, "Ready").is_some_and(|ready| ready.is_true())
}

pub fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// A text of an object; fails if there is none.
pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a text"))
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap_or_default()
}

/// What distinguishes one state of an object from every other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision {
    uid: String,
    resource_version: String,
}

pub fn revision(object: &Value) -> Revision {
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
    Revision { uid: uid(object).to_owned(), resource_version: version.to_owned() }
}

impl World {
    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = kind.resource();
        match kind {
            Kind::Namespace | Kind::ClusterRoleBinding => Api::all_with(self.client.clone(), &resource),
            Kind::Account => Api::namespaced_with(self.client.clone(), ACCOUNTS, &resource),
            _ => Api::namespaced_with(self.client.clone(), &self.namespace, &resource),
        }
    }

    pub async fn create(&self, kind: Kind, manifest: Value) -> Value {
        self.try_create(kind, manifest).await.unwrap_or_else(|error| panic!("{error}"))
    }

    pub async fn try_create(&self, kind: Kind, mut manifest: Value) -> Result<Value, kube::Error> {
        let resource = kind.resource();
        manifest["apiVersion"] = json!(resource.api_version);
        manifest["kind"] = json!(resource.kind);
        let object: DynamicObject = serde_json::from_value(manifest).expect("the manifest is an object");
        self.api(kind).create(&PostParams::default(), &object).await.map(value)
    }

    pub async fn find(&self, kind: Kind, name: &str) -> Option<Value> {
        self.api(kind)
            .get_opt(name)
            .await
            .unwrap_or_else(|error| panic!("{kind:?} {name}: {error}"))
            .map(value)
    }

    pub async fn get(&self, kind: Kind, name: &str) -> Value {
        self.find(kind, name).await.unwrap_or_else(|| panic!("{kind:?} {name} does not exist"))
    }

    pub async fn list(&self, kind: Kind) -> Vec<Value> {
        let list = self.api(kind).list(&ListParams::default()).await;
        list.unwrap_or_else(|error| panic!("{kind:?}: {error}")).items.into_iter().map(value).collect()
    }

    /// Secrets that the operator wrote, by its label.
    pub async fn generated_secrets(&self) -> Vec<Value> {
        let secrets = self.list(Kind::Secret).await;
        let label = "app.kubernetes.io/managed-by";
        secrets.into_iter().filter(|s| s["metadata"]["labels"][label] == "dps-operator").collect()
    }

    /// The state that each of them is in.
    pub async fn secret_revisions(&self) -> Vec<Revision> {
        self.generated_secrets().await.iter().map(revision).collect()
    }

    /// Applies a JSON merge patch.
    pub async fn patch(&self, kind: Kind, name: &str, patch: Value) -> Value {
        let patched = self.try_patch(kind, name, patch).await;
        patched.unwrap_or_else(|error| panic!("{kind:?} {name}: {error}"))
    }

    pub async fn try_patch(&self, kind: Kind, name: &str, patch: Value) -> Result<Value, kube::Error> {
        self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(value)
    }

    pub async fn delete(&self, kind: Kind, name: &str) {
        let deleted = self.api(kind).delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{kind:?} {name}: {error}"));
    }

    /// Waits until the object is there and as it should be; returns it.
    pub async fn wait(&self, kind: Kind, name: &str, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let found = until(self.patience, POLL, async || match self.find(kind, name).await {
            Some(object) if fits(&object) => Ok(object),
            Some(object) => Err(object),
            None => Err(json!("does not exist")),
        });
        let never = format!("{kind:?} {name} never became: {what}");
        found.await.unwrap_or_else(|last| self.give_up(&never, &last))
    }

    pub async fn wait_gone(&self, kind: Kind, name: &str) {
        let gone = until(self.patience, POLL, async || self.find(kind, name).await.map_or(Ok(()), Err));
        gone.await.unwrap_or_else(|last| self.give_up(&format!("{kind:?} {name} was never gone"), &last));
    }

    /// Waits until the device is Ready for its present spec.
    pub async fn wait_ready(&self, device: &str) -> Value {
        self.wait(Kind::Device, device, "Ready", is_ready).await
    }

    /// Waits until so many devices exist and all of them are Ready; returns them.
    pub async fn wait_all_ready(&self, count: usize) -> Vec<Value> {
        let all_ready = until(self.patience, POLL * 5, async || {
            let devices = self.list(Kind::Device).await;
            let ready = devices.iter().all(is_ready) && devices.len() == count;
            if ready { Ok(devices) } else { Err(devices) }
        });
        all_ready.await.unwrap_or_else(|devices| {
            let (ready, lagging): (Vec<&Value>, Vec<&Value>) = devices.iter().partition(|d| is_ready(d));
            let became = format!("{} of {count} devices became Ready", ready.len());
            self.give_up(&became, &json!(lagging[..lagging.len().min(3)]))
        })
    }

    /// Waits until `Ready` of a device has this reason for its present spec.
    pub async fn wait_reason(&self, device: &str, reason: &str) -> Value {
        let fits = |object: &Value| is_observed(object) && ready_reason(object) == reason;
        self.wait(Kind::Device, device, reason, fits).await
    }

    /// The same for an integration.
    pub async fn wait_integration(&self, name: &str, reason: &str) -> Value {
        let fits = |object: &Value| is_observed(object) && ready_reason(object) == reason;
        self.wait(Kind::Integration, name, reason, fits).await
    }

    /// Waits until an integration's device counters are as they should be.
    pub async fn wait_counters(&self, name: &str, fits: impl Fn(&Value) -> bool) -> Value {
        self.wait(Kind::Integration, name, "counted", |object| fits(&object["status"]["devices"])).await
    }

    /// Removes a device's status, as a backup does or a crash before it was written.
    pub async fn forget_status(&self, device: &str) {
        self.patch_status(device, json!({"status": null})).await;
    }

    /// Applies a JSON merge patch to a device's status.
    pub async fn patch_status(&self, device: &str, patch: Value) {
        self.patch_status_of(Kind::Device, device, patch).await;
    }

    pub async fn patch_status_of(&self, kind: Kind, name: &str, patch: Value) {
        let patch = Patch::Merge(patch);
        let patched = self.api(kind).patch_status(name, &PatchParams::default(), &patch).await;
        patched.unwrap_or_else(|error| panic!("{kind:?} {name}: {error}"));
    }

    /// The data of a Secret as text.
    pub async fn secret(&self, name: &str) -> BTreeMap<String, String> {
        data(&self.get(Kind::Secret, name).await)
    }
}

pub fn value(object: DynamicObject) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

/// The data of a Secret as text.
pub fn data(secret: &Value) -> BTreeMap<String, String> {
    let entries = secret["data"].as_object().into_iter().flatten();
    let text = |value: &Value| {
        let bytes = STANDARD.decode(value.as_str().unwrap_or_default()).expect("data is base64");
        String::from_utf8(bytes).expect("data is text")
    };
    entries.map(|(key, value)| (key.clone(), text(value))).collect()
}
