//! The cluster, reached as the user's own kubeconfig says and with the user's own rights.

use std::path::PathBuf;

use dps_operator_api::names::GROUP;
use jiff::Timestamp;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Api, Client, Config, Resource};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::failure::{Asked, Failure, unreachable};
use crate::terminal::Progress;

/// As many objects are asked for at once.
const PAGE: u32 = 500;
/// Who wrote a field, in `managedFields`.
const FIELD_MANAGER: &str = "kubectl-dps";

/// Which cluster and namespace, as kubectl names these flags.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Everywhere")]
pub struct ClusterFlags {
    /// The kubeconfig file, instead of KUBECONFIG or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig to use, instead of its current one
    #[arg(long, global = true, value_name = "NAME")]
    context: Option<String>,
    /// The namespace, instead of the context's
    #[arg(short, long, global = true, value_name = "NAME")]
    namespace: Option<String>,
}

/// A kind that devices and integrations have in common: namespaced, and of our group.
pub trait Kind: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned {}

impl<K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned> Kind for K {}

/// The API server, and the namespace that is meant where none is named.
pub struct Cluster {
    pub client: Client,
    pub namespace: String,
}

/// A page of a list. Each object stays text until it is read by itself: one that is nested deeper than
/// `serde_json` goes would make the whole page unreadable.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: ListMeta,
    items: Vec<Box<RawValue>>,
}

fn resource<K: Kind>() -> String {
    format!("{}.{GROUP}", K::plural(&()))
}

/// The object, or nothing if this version cannot read it.
fn read<K: Kind>(object: DynamicObject) -> Option<K> {
    object.try_parse().ok()
}

impl Cluster {
    /// Asks nothing yet.
    ///
    /// # Errors
    /// If there is no kubeconfig, or it cannot be used.
    pub async fn of(flags: &ClusterFlags) -> Result<Self, Failure> {
        let options = KubeConfigOptions { context: flags.context.clone(), ..KubeConfigOptions::default() };
        let config = match &flags.kubeconfig {
            Some(file) => match Kubeconfig::read_from(file) {
                Ok(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &options).await,
                Err(error) => Err(error),
            },
            None => Config::from_kubeconfig(&options).await,
        };
        let config = config.map_err(|error| {
            Failure::Cluster(format!(
                "No cluster is configured: {error}. Set KUBECONFIG, or name a file with --kubeconfig."
            ))
        })?;
        let namespace = flags.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).map_err(|error| unreachable(&error))?;
        Ok(Self { client, namespace })
    }

    fn api<K: Kind>(&self, namespace: &str) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), namespace, &ApiResource::erase::<K>(&()))
    }

    /// Hands over each object of the namespace, or of all, page by page; returns how many there are that
    /// this version cannot read.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub async fn each<K: Kind>(
        &self,
        namespace: Option<&str>,
        mut take: impl FnMut(K),
    ) -> Result<usize, Failure> {
        let resource = resource::<K>();
        let asked = Asked { verb: "list", resource: &resource, namespace, name: None };
        let mut progress = Progress::new();
        let (mut seen, mut unreadable, mut params) = (0, 0, ListParams::default().limit(PAGE));
        loop {
            let request = Request::new(K::url_path(&(), namespace)).list(&params);
            let request = request.map_err(|error| unreachable(&kube::Error::BuildRequest(error)))?;
            let page: Page = self.client.request(request).await.map_err(|error| asked.failed(&error))?;
            seen += page.items.len();
            for object in page.items {
                match serde_json::from_str(object.get()) {
                    Ok(object) => take(object),
                    Err(_) => unreadable += 1,
                }
            }
            progress.show(|| format!("read {seen} {}…", K::plural(&())));
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(unreadable),
            }
        }
    }

    /// The object of this name, if there is one.
    ///
    /// # Errors
    /// If the API server cannot be asked, or this version cannot read the object.
    pub async fn find<K: Kind>(&self, namespace: &str, name: &str) -> Result<Option<K>, Failure> {
        let resource = resource::<K>();
        let asked = Asked { verb: "get", resource: &resource, namespace: Some(namespace), name: None };
        let object = match self.api::<K>(namespace).get(name).await {
            Ok(object) => object,
            Err(kube::Error::Api(status)) if status.code == 404 && status.message.contains(name) => {
                return Ok(None);
            }
            Err(error) => return Err(asked.failed(&error)),
        };
        read(object).map(Some).ok_or_else(|| {
            Failure::Cluster(format!(
                "{namespace}/{name} cannot be read: the operator is newer than this program. \"kubectl dps version\" \
                 shows both."
            ))
        })
    }

    /// The same, where it has to be there.
    ///
    /// # Errors
    /// Also if there is none.
    pub async fn get<K: Kind>(&self, name: &str) -> Result<K, Failure> {
        let namespace = &self.namespace;
        self.find(namespace, name).await?.ok_or_else(|| {
            Failure::NeedsYou(format!("There is no {} \"{name}\" in namespace {namespace}.", resource::<K>()))
        })
    }

    /// Changes an object by a JSON merge patch; returns it as it is then.
    ///
    /// # Errors
    /// If there is no such object, or the API server refuses the change.
    pub async fn patch<K: Kind>(&self, namespace: &str, name: &str, patch: &Value) -> Result<K, Failure> {
        let resource = resource::<K>();
        let asked =
            Asked { verb: "patch", resource: &resource, namespace: Some(namespace), name: Some(name) };
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patched = self.api::<K>(namespace).patch(name, &params, &Patch::Merge(patch)).await;
        let patched = patched.map_err(|error| asked.failed(&error))?;
        read(patched).ok_or_else(|| {
            Failure::Cluster(format!("{namespace}/{name} was changed, and cannot be read by this version."))
        })
    }
}

/// The time by this machine's clock: the only place that asks for it.
pub fn now() -> Timestamp {
    Timestamp::now()
}
