//! Writes: a Secret by POST or a guarded patch, a status by the smallest PUT that is safe.

use std::sync::Arc;

use http::Request;
use http::header::{ACCEPT, HeaderValue};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;
use super::guard::Guarded;
use super::refs::is_generated;
use crate::api::cert_manager::{CERTIFICATE_NAME, Certificate};
use crate::api::device::ProvisionedDevice;
use crate::api::digest::Digest;
use crate::api::names::FIELD_MANAGER;
use crate::api::version;
use crate::schedule::Share;

/// Writes in flight, of devices and integrations. The engine starts no more for devices, and leaves room to
/// every namespace.
const SLOTS: usize = 40;
/// Slots that work of a whole fleet may hold: the others keep a new device from waiting behind it.
const FLEET_SLOTS: usize = SLOTS / 2;
/// Reads of single objects in flight.
const READ_SLOTS: usize = 40;

/// As the answer to a write. Another form is read as well.
const METADATA_ONLY: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");

/// All writes of the operator go through here, and the reads that they need.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    slots: Arc<Semaphore>,
    read_slots: Arc<Semaphore>,
    fleet_slots: Arc<Semaphore>,
    share: Share,
}

/// A status as the API server has stored it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// resourceVersion of the object.
    pub version: u64,
    /// Of the status that came back: an older CRD may have left something of it out.
    pub status: Option<Digest>,
}

/// A written object, read only as far as its version and its status.
#[derive(Deserialize)]
struct Written<S> {
    metadata: WrittenMeta,
    status: Option<S>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenMeta {
    resource_version: Option<String>,
}

impl WrittenMeta {
    fn version(&self) -> u64 {
        version::parse(self.resource_version.as_deref())
    }
}

impl<S: Serialize> Written<S> {
    fn stored(&self) -> Stored {
        Stored { version: self.metadata.version(), status: self.status.as_ref().and_then(Digest::of) }
    }
}

impl Writer {
    pub fn new(client: Client) -> Self {
        Self {
            client,
            slots: Arc::new(Semaphore::new(SLOTS)),
            read_slots: Arc::new(Semaphore::new(READ_SLOTS)),
            fleet_slots: Arc::new(Semaphore::new(FLEET_SLOTS)),
            share: Share::Device,
        }
    }

    /// A writer for work of this share.
    #[must_use]
    pub fn with_share(&self, share: Share) -> Self {
        Self { share, ..self.clone() }
    }

    /// Waits for a slot. Fleet-wide work waits for one of its own first, so that it never holds more.
    async fn slot(&self) -> (Option<SemaphorePermit<'_>>, Option<SemaphorePermit<'_>>) {
        // The semaphores are never closed.
        let fleet = if self.share == Share::Fleet { self.fleet_slots.acquire().await.ok() } else { None };
        (fleet, self.slots.acquire().await.ok())
    }

    /// Reads a device whose object is not kept in memory.
    ///
    /// # Errors
    /// As classified; `Ok(None)` when it is gone or cannot be read.
    pub async fn read_device(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<ProvisionedDevice>, ApiError> {
        let _slot = self.read_slots.acquire().await;
        let api: Api<Guarded<ProvisionedDevice>> = Api::namespaced(self.client.clone(), namespace);
        match api.get_opt(name).await.map_err(|error| ApiError::from(&error))? {
            Some(Guarded::Read(device)) => Ok(Some(device)),
            // The watch has logged it.
            Some(Guarded::Unreadable(_)) | None => Ok(None),
        }
    }

    /// True if the namespace is being deleted, or gone. `may_list`: a right for all namespaces is used;
    /// otherwise one that a Role in it gives.
    ///
    /// # Errors
    /// As classified.
    pub async fn namespace_ends(&self, name: &str, may_list: bool) -> Result<bool, ApiError> {
        let _slot = self.read_slots.acquire().await;
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = if may_list {
            let only = ListParams::default().fields(&format!("metadata.name={name}"));
            api.list_metadata(&only).await.map(|mut list| list.items.pop())
        } else {
            api.get_metadata_opt(name).await
        };
        let found = found.map_err(|error| ApiError::from(&error))?;
        Ok(found.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some()))
    }

    /// The version of a Secret, of which nothing else is read; 0 when there is none, or one that the operator
    /// has written.
    ///
    /// # Errors
    /// As classified.
    pub async fn secret_version(&self, namespace: &str, name: &str) -> Result<u64, ApiError> {
        let _slot = self.read_slots.acquire().await;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_metadata_opt(name).await.map_err(|error| ApiError::from(&error))?;
        let found = found.filter(|secret| !is_generated(&secret.metadata));
        Ok(found.map_or(0, |secret| version::of(&secret.metadata)))
    }

    /// # Errors
    /// As classified; `Ok(None)` when there is none.
    pub async fn read_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ApiError> {
        let _slot = self.read_slots.acquire().await;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|error| ApiError::from(&error))
    }

    /// Creates a Secret and returns its version.
    ///
    /// # Errors
    /// `Conflict` when one of that name exists.
    pub async fn create_secret(&self, namespace: &str, secret: &Secret) -> Result<u64, ApiError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let body = serde_json::to_vec(secret).map_err(|_| unsendable())?;
        let request = secrets_of(namespace).create(&params, body).map_err(|_| unsendable())?;
        self.write(request).await
    }

    /// Applies a strategic merge patch, which must carry uid and resourceVersion, and returns the
    /// Secret's new version.
    ///
    /// # Errors
    /// `Conflict` when the Secret has changed or is another one; `NotFound` when it is gone.
    pub async fn patch_secret(&self, namespace: &str, name: &str, patch: &Value) -> Result<u64, ApiError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request =
            secrets_of(namespace).patch(name, &params, &Patch::Strategic(patch)).map_err(|_| unsendable())?;
        self.write(request).await
    }

    /// The Certificate that cert-manager has issued a Secret for, by its name, of which nothing else is read. `Ok(None)`:
    /// there is no such Secret; `Ok(Some(None))`: it is of another origin.
    ///
    /// # Errors
    /// As classified.
    pub async fn issued_for(&self, namespace: &str, name: &str) -> Result<Option<Option<String>>, ApiError> {
        let _slot = self.read_slots.acquire().await;
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let found = api.get_metadata_opt(name).await.map_err(|error| ApiError::from(&error))?;
        Ok(found.map(|secret| secret.metadata.annotations.unwrap_or_default().remove(CERTIFICATE_NAME)))
    }

    /// # Errors
    /// As classified; `Ok(None)` when there is none.
    pub async fn read_certificate(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Certificate>, ApiError> {
        let _slot = self.read_slots.acquire().await;
        let api: Api<Certificate> = Api::namespaced(self.client.clone(), namespace);
        api.get_opt(name).await.map_err(|error| ApiError::from(&error))
    }

    /// Creates a Certificate.
    ///
    /// # Errors
    /// `Conflict` when one of that name exists; `NotFound` when the API server knows none.
    pub async fn create_certificate(&self, namespace: &str, certificate: &Value) -> Result<(), ApiError> {
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let body = certificate.to_string().into_bytes();
        let request = certificates_of(namespace).create(&params, body).map_err(|_| unsendable())?;
        self.write(request).await.map(|_| ())
    }

    /// Applies a merge patch, which must carry the uid.
    ///
    /// # Errors
    /// `Conflict` when it is another one; `NotFound` when it is gone.
    pub async fn patch_certificate(
        &self,
        namespace: &str,
        name: &str,
        patch: &Value,
    ) -> Result<(), ApiError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let request = certificates_of(namespace)
            .patch(name, &params, &Patch::Merge(patch))
            .map_err(|_| unsendable())?;
        self.write(request).await.map(|_| ())
    }

    /// Returns the object's new version; what stands in it does not come back.
    async fn write(&self, mut request: Request<Vec<u8>>) -> Result<u64, ApiError> {
        let _slot = self.slot().await;
        request.headers_mut().insert(ACCEPT, METADATA_ONLY);
        let written: Written<()> =
            self.client.request(request).await.map_err(|error| ApiError::from(&error))?;
        Ok(written.metadata.version())
    }

    /// Replaces the whole status of exactly this version of exactly this object: a PUT of the
    /// subresource that carries nothing but identity and status. It is the cheapest form that
    /// cannot land on another object of the same name (docs/design.md). Returns what is stored now.
    ///
    /// # Errors
    /// `Conflict` when the object has changed or is another one; `NotFound` when it is gone.
    pub async fn replace_status<K, S>(&self, object: &K, status: &S) -> Result<Stored, ApiError>
    where
        K: Resource<DynamicType = ()>,
        S: Serialize + DeserializeOwned,
    {
        let _slot = self.slot().await;
        let meta = object.meta();
        let name = meta.name.as_deref().unwrap_or_default();
        let body = json!({
            "apiVersion": K::api_version(&()),
            "kind": K::kind(&()),
            "metadata": {
                "name": name,
                "namespace": meta.namespace,
                "uid": meta.uid,
                "resourceVersion": meta.resource_version,
            },
            "status": status,
        });
        let url = K::url_path(&(), meta.namespace.as_deref());
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let request = kube::core::Request::new(url)
            .replace_subresource("status", name, &params, body.to_string().into_bytes())
            .map_err(|_| unsendable())?;
        let written: Written<S> =
            self.client.request(request).await.map_err(|error| ApiError::from(&error))?;
        Ok(written.stored())
    }
}

fn secrets_of(namespace: &str) -> kube::core::Request {
    kube::core::Request::new(Secret::url_path(&(), Some(namespace)))
}

fn certificates_of(namespace: &str) -> kube::core::Request {
    kube::core::Request::new(Certificate::url_path(&(), Some(namespace)))
}

/// Of a request that cannot be put together.
fn unsendable() -> ApiError {
    ApiError::Invalid("the request".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use http::Response;
    use kube::client::Body;

    use super::*;

    /// An API server that answers every request with this object. Returns also what is accepted.
    fn answering(object: &Value) -> (Writer, Arc<Mutex<Vec<String>>>) {
        let (accepted, body) = (Arc::new(Mutex::new(Vec::new())), object.to_string());
        let seen = accepted.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            seen.lock().unwrap().push(request.headers()[ACCEPT].to_str().unwrap().to_owned());
            let answer = Response::new(Body::from(body.clone().into_bytes()));
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        (Writer::new(Client::new(service, "fleet")), accepted)
    }

    #[tokio::test]
    async fn nothing_of_a_secret_that_was_written_is_asked_for_but_its_metadata() {
        let metadata = json!({"name": "truck-1-hub", "resourceVersion": "7"});
        for kind in ["PartialObjectMetadata", "Secret"] {
            let (writer, accepted) = answering(&json!({"kind": kind, "metadata": metadata, "data": {}}));

            let created = writer.create_secret("fleet", &Secret::default()).await;
            let patched = writer.patch_secret("fleet", "truck-1-hub", &json!({})).await;

            assert_eq!((created, patched), (Ok(7), Ok(7)), "{kind}");
            let accepted = accepted.lock().unwrap();
            assert_eq!(accepted.len(), 2);
            assert!(
                accepted.iter().all(|form| form.starts_with("application/json;as=PartialObjectMetadata;"))
            );
        }
    }
}
