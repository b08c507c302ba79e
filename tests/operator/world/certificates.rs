//! Devices with certificates: their Secrets, as cert-manager writes them, and what DPS knows of their CAs.

use dps_dev::pki::Identity;
use dps_simulator::{Certificate, Certificates};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::objects::data;
use super::{GROUP, INTEGRATION, Kind, SCOPE, World, manifests};

/// A CA that has signed itself.
pub fn root(common_name: &str) -> Identity {
    Identity::root(common_name).expect("it can be made")
}

/// A device under this CA.
pub fn device(ca: &Identity, name: &str) -> Identity {
    ca.device(name).expect("it can be made")
}

pub fn certificate(pem: &str) -> Certificate {
    Certificate::from_pem(pem).expect("it is a certificate")
}

/// How a status names a certificate.
pub fn fingerprint(pem: &str) -> String {
    certificate(pem).thumbprint().as_str()[..16].to_lowercase()
}

/// The private key is the certificate's.
pub fn belong_together(pem: &str, key: &str) -> bool {
    let key =
        PrivateKeyDer::from_pem_slice(key.as_bytes()).ok().and_then(|key| any_supported_type(&key).ok());
    let public = key.as_ref().and_then(|key| key.public_key());
    let Ok(certificate) = CertificateDer::from_pem_slice(pem.as_bytes()) else { return false };
    // A certificate has its public key as this is written.
    public.is_some_and(|public| certificate.windows(public.len()).any(|part| part == &*public))
}

impl World {
    /// Everything runs, DPS has verified this CA and admits devices under it, and the devices of integration
    /// `factory` have certificates.
    pub async fn with_certificates(root: &Identity) -> Self {
        let world = Self::empty().await;
        world.trust(&[root]);
        let attestation = json!({"attestation": {"symmetricKey": null, "x509": {}}});
        world.integration_without_key(INTEGRATION, attestation).await;
        world
    }

    /// DPS has verified these CAs, two at most, and admits devices under them by its group.
    pub fn trust(&self, roots: &[&Identity]) {
        for (number, root) in roots.iter().enumerate() {
            let name = format!("root-{number}");
            let uploaded = self.dps.upload_certificate_authority(SCOPE, &name, certificate(&root.pem), true);
            uploaded.expect("the id scope is there");
        }
        let secondary = roots.get(1).map(|root| certificate(&root.pem));
        let group = Certificates { primary: certificate(&roots[0].pem), secondary };
        self.dps.set_group_certificates(SCOPE, GROUP, group).expect("the group is there");
    }

    /// The Secret `NAME-tls` with this certificate and those above it, made or replaced in one write.
    pub async fn issue(&self, name: &str, device: &Identity, above: &[&Identity]) {
        self.issue_into(&format!("{name}-tls"), device, above).await;
    }

    /// The same in the Secret of this name.
    pub async fn issue_into(&self, secret: &str, device: &Identity, above: &[&Identity]) {
        self.try_issue(secret, device, above).await.expect("the Secret can be written");
    }

    /// The same, where the API server may not answer.
    pub async fn try_issue(
        &self,
        secret: &str,
        device: &Identity,
        above: &[&Identity],
    ) -> Result<(), kube::Error> {
        self.issued.add(device, &device.chain(above));
        let (chain, key) = (device.chain(above), device.key_pem());
        let mut manifest = manifests::secret(secret, &[("tls.crt", &chain), ("tls.key", &key)]);
        manifest["type"] = json!("kubernetes.io/tls");
        if self.try_create(Kind::Secret, manifest.clone()).await.is_err() {
            self.try_patch(Kind::Secret, secret, json!({"data": manifest["data"]})).await?;
        }
        Ok(())
    }

    /// A device with such a Secret.
    pub async fn certified(&self, ca: &Identity, name: &str) -> Value {
        self.issue(name, &device(ca, name), &[]).await;
        self.device(name).await
    }

    /// The hub would let the device in with the certificate in its Secret.
    pub async fn hub_takes(&self, name: &str) -> bool {
        let secret = self.get(Kind::Secret, &format!("{name}-hub")).await;
        self.dps.accepts_device_certificate(SCOPE, name, &certificate(&data(&secret)["tls.crt"]))
    }
}
