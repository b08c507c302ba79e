//! What cert-manager is asked for on behalf of a device: one Certificate, which is the device's and is kept as its
//! integration says. Pure. What comes of it is none of this room's affair: the Secret is followed as any that has a
//! device's certificate.

use kube::core::ObjectMeta;
use serde_json::{Value, json};

use crate::api::cert_manager::{CertManager, Certificate, CertificateKeySpec, CertificateSpec, KeyAlgorithm};
use crate::api::names;
use crate::dps::ids::RegistrationId;
use crate::fleet::hash::Hash;
use crate::fleet::uid::Uid;

/// X.520 allows a common name no more.
const COMMON_NAME_MAX: usize = 64;
/// Names of objects.
const NAME_MAX: usize = 253;

/// The Certificate that a device is to have.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub namespace: String,
    /// Also of the Secret.
    pub name: String,
    pub device: String,
    pub uid: Uid,
    /// `namespace/name`.
    pub integration: String,
    pub spec: CertificateSpec,
}

/// A Certificate that is there, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The object that controls it.
    pub owner: Option<Uid>,
    /// Of what we write into it.
    pub content: Hash,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Nothing,
    Create,
    /// It is the device's, and is not as it should be.
    Change,
}

/// Why the device's Certificate is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Trouble {
    /// The Secret is there, and cert-manager has not issued it for this Certificate.
    OtherSecret,
    /// The Certificate is there, and is not the device's.
    OtherCertificate,
    /// Another device has the registration id.
    OtherDevice,
    /// The API server knows no Certificates.
    NotInstalled,
    /// It refuses it: why.
    Refused(String),
}

/// How far it has come with a Certificate whose Secret is not there yet.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// What is there is not known.
    Unlisted,
    Asked,
    Troubled(&'a Trouble),
}

impl Progress<'_> {
    /// What a device's status says of it while its certificate is not there. `name`: of the Certificate and of its Secret.
    pub fn message(self, namespace: &str, name: &str) -> String {
        let missing = format!("Secret {name:?} with the device's certificate does not exist");
        match self {
            Self::Asked => format!(
                "{missing} yet: cert-manager was asked for it. How far it is says kubectl describe certificate {name} -n {namespace}."
            ),
            Self::Unlisted => format!(
                "{missing}. cert-manager is asked for it once the operator can list Certificates (cert-manager.io/v1): is cert-manager \
                 installed, and the chart's certManager.enabled set?"
            ),
            Self::Troubled(Trouble::OtherSecret) => format!(
                "Secret {name:?} is there already, and cert-manager has not issued it for Certificate {name:?}, so it is left as it is. \
                 Delete the Secret, and the Certificate that it comes from, to have a new one issued for the device. It is looked at \
                 again by itself, within the hour."
            ),
            Self::Troubled(Trouble::OtherCertificate) => format!(
                "{missing}, and Certificate {name:?} is not the device's, so it is left as it is. Delete it, or have it issue \
                 that Secret. It is looked at again by itself, within the hour."
            ),
            Self::Troubled(Trouble::OtherDevice) => format!(
                "{missing}, and cert-manager is not asked for it: another ProvisionedDevice has the same registration id, and with a \
                 certificate of that name this device would be taken for that one. Delete one of them, or have them use \
                 different issuers."
            ),
            Self::Troubled(Trouble::NotInstalled) => format!(
                "{missing}, and the API server knows no Certificates (cert-manager.io/v1): install cert-manager. It is tried again by itself."
            ),
            Self::Troubled(Trouble::Refused(why)) => format!(
                "{missing}, and the API server refuses Certificate {name:?}: {why}. It is tried again by itself, within the hour."
            ),
        }
    }
}

impl Wanted {
    /// `None` for a device whose certificate could never be used.
    pub fn spec(cert_manager: &CertManager, secret: &str, registration_id: &str) -> Option<CertificateSpec> {
        let id = RegistrationId::parse(registration_id).ok()?;
        if id.as_str().len() > COMMON_NAME_MAX || secret.len() > NAME_MAX {
            return None;
        }
        let CertManager { issuer_ref, duration, renew_before, private_key } = cert_manager;
        let algorithm = match private_key.algorithm {
            KeyAlgorithm::Ecdsa => "ECDSA",
            KeyAlgorithm::Rsa => "RSA",
            KeyAlgorithm::Ed25519 => "Ed25519",
        };
        Some(CertificateSpec {
            secret_name: secret.to_owned(),
            common_name: id.as_str().to_owned(),
            usages: vec!["digital signature".to_owned(), "client auth".to_owned()],
            duration: duration.clone(),
            renew_before: renew_before.clone(),
            private_key: Some(CertificateKeySpec {
                algorithm: Some(algorithm.to_owned()),
                size: private_key.bits(),
                rotation_policy: Some("Always".to_owned()),
            }),
            issuer_ref: Some(issuer_ref.clone()),
        })
    }

    pub fn shown(&self) -> Shown {
        Shown { owner: Some(self.uid), content: content(true, &self.spec) }
    }

    /// `shown`: what is there by this name.
    pub fn ask(&self, shown: Option<Shown>) -> Ask {
        match shown {
            None => Ask::Create,
            Some(shown) if shown == self.shown() => Ask::Nothing,
            Some(shown) if shown.owner == Some(self.uid) => Ask::Change,
            // Its former device's goes with that. Another's is looked at when it is created.
            Some(_) => Ask::Create,
        }
    }

    /// The whole object.
    pub fn object(&self) -> Value {
        json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "Certificate",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "labels": self.labels(),
                "annotations": {names::INTEGRATION: self.integration},
                "ownerReferences": [{
                    "apiVersion": names::API_VERSION,
                    "kind": names::DEVICE_KIND,
                    "name": self.device,
                    "uid": self.uid.text(),
                    "controller": true,
                    "blockOwnerDeletion": false,
                }],
            },
            "spec": self.spec,
        })
    }

    /// A merge patch of the one with this uid.
    pub fn patch(&self, uid: Option<&str>) -> Value {
        let mut spec = json!(self.spec);
        // What is not set is removed.
        let CertificateSpec { duration, renew_before, private_key, .. } = &self.spec;
        spec["duration"] = json!(duration);
        spec["renewBefore"] = json!(renew_before);
        spec["privateKey"]["size"] = json!(private_key.as_ref().and_then(|key| key.size));
        json!({
            "metadata": {
                "uid": uid,
                "labels": self.labels(),
                "annotations": {names::INTEGRATION: self.integration},
            },
            "spec": spec,
        })
    }

    fn labels(&self) -> Value {
        let mut labels = json!({names::MANAGED_BY_LABEL: names::MANAGED_BY});
        // A label holds 63 characters.
        if self.device.len() <= 63 {
            labels[names::DEVICE] = json!(self.device);
        }
        labels
    }
}

/// What is kept of a Certificate.
pub fn shown(certificate: &Certificate) -> Shown {
    let Certificate { metadata, spec } = certificate;
    let label = metadata.labels.as_ref().and_then(|labels| labels.get(names::MANAGED_BY_LABEL));
    let is_labelled = label.is_some_and(|by| by == names::MANAGED_BY);
    Shown { owner: owner(metadata), content: content(is_labelled, spec) }
}

fn owner(meta: &ObjectMeta) -> Option<Uid> {
    let owner = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true))?;
    Some(Uid::parse(&owner.uid))
}

/// `is_labelled`: our watch shows it.
fn content(is_labelled: bool, spec: &CertificateSpec) -> Hash {
    // It always serialises; an empty text would only have it written once more.
    let spec = serde_json::to_vec(spec).unwrap_or_default();
    Hash::of("certificate", [&[u8::from(is_labelled)], spec.as_slice()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const UID: &str = "b1dafdfd-d634-4bfe-9061-804d9ded6ce8";

    fn cert_manager(change: Value) -> CertManager {
        let mut value = json!({"issuerRef": {"name": "fleet-ca"}});
        value.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        serde_json::from_value(value).unwrap()
    }

    fn wanted(change: Value) -> Wanted {
        Wanted {
            namespace: "fleet".to_owned(),
            name: "truck-1-tls".to_owned(),
            device: "truck-1".to_owned(),
            uid: Uid::parse(UID),
            integration: "fleet/factory".to_owned(),
            spec: Wanted::spec(&cert_manager(change), "truck-1-tls", "truck-1").unwrap(),
        }
    }

    /// The one that is there, changed.
    fn there(wanted: &Wanted, change: impl FnOnce(&mut Value)) -> Option<Shown> {
        let mut object = wanted.object();
        change(&mut object);
        Some(shown(&serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn what_was_written_is_as_it_should_be_whatever_others_add() {
        for change in [
            json!({}),
            json!({"duration": "24h", "renewBefore": "8h"}),
            json!({"privateKey": {"algorithm": "RSA", "size": 4096}}),
            json!({"privateKey": {"algorithm": "Ed25519"}}),
            json!({"issuerRef": {"name": "step", "kind": "StepIssuer", "group": "certmanager.step.sm"}}),
        ] {
            let wanted = wanted(change.clone());
            let added = there(&wanted, |object| {
                object["spec"]["revisionHistoryLimit"] = json!(1);
                object["status"] = json!({"conditions": []});
                object["metadata"]["labels"]["team"] = json!("trucks");
            });
            assert_eq!(wanted.ask(added), Ask::Nothing, "{change}");
        }
    }

    #[test]
    fn each_field_that_is_ours_is_put_back() {
        let wanted = wanted(json!({"duration": "24h"}));
        for (pointer, value) in [
            ("/spec/commonName", json!("truck-2")),
            ("/spec/secretName", json!("other")),
            ("/spec/usages", json!(["client auth"])),
            ("/spec/duration", Value::Null),
            ("/spec/duration", json!("48h")),
            ("/spec/renewBefore", json!("1h")),
            ("/spec/privateKey/algorithm", json!("RSA")),
            ("/spec/privateKey/size", json!(384)),
            ("/spec/privateKey/rotationPolicy", json!("Never")),
            ("/spec/issuerRef/name", json!("mine")),
            ("/spec/issuerRef/kind", json!("ClusterIssuer")),
            ("/metadata/labels/app.kubernetes.io~1managed-by", json!("me")),
        ] {
            let changed = there(&wanted, |object| {
                let (parent, field) = pointer.rsplit_once('/').unwrap();
                object.pointer_mut(parent).unwrap()[field.replace("~1", "/")] = value.clone();
            });
            assert_eq!(wanted.ask(changed), Ask::Change, "{pointer} {value}");
        }
        let patch = wanted.patch(Some("u"));
        assert_eq!((&patch["spec"]["duration"], &patch["metadata"]["uid"]), (&json!("24h"), &json!("u")));
        assert_eq!(patch["spec"].get("renewBefore"), Some(&Value::Null), "what nobody wants is removed");
    }

    #[test]
    fn one_of_another_owner_is_not_changed() {
        let wanted = wanted(json!({}));
        assert_eq!(wanted.ask(None), Ask::Create);
        for owners in [
            json!(null),
            json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": UID, "controller": false}]),
            json!([{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "other", "controller": true}]),
        ] {
            let others = there(&wanted, |object| object["metadata"]["ownerReferences"] = owners.clone());
            assert_eq!(wanted.ask(others), Ask::Create, "{owners}");
        }
    }

    #[test]
    fn nothing_is_asked_for_an_id_that_no_common_name_can_hold() {
        let long = |id: usize, secret: usize| {
            Wanted::spec(&cert_manager(json!({})), &"s".repeat(secret), &"a".repeat(id)).is_some()
        };
        assert!(long(64, 253));
        assert!(!long(65, 10) && !long(10, 254));
        assert!(Wanted::spec(&cert_manager(json!({})), "s", "not an id").is_none());
    }

    #[test]
    fn a_name_that_no_label_can_hold_is_left_out() {
        let mut wanted = wanted(json!({}));
        wanted.device = "d".repeat(64);
        let object = wanted.object();
        let labels = object["metadata"]["labels"].as_object().unwrap();
        assert_eq!(labels.keys().collect::<Vec<_>>(), [names::MANAGED_BY_LABEL]);
        assert_eq!(object["metadata"]["ownerReferences"][0]["name"], json!("d".repeat(64)));
    }
}
