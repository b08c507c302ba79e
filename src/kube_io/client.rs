//! The client, set up for a long-running process behind load balancers.

use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{Config, InferConfigError, KubeConfigOptions, Kubeconfig};
use tower::timeout::TimeoutLayer;

use crate::telemetry::Telemetry;
use crate::telemetry::api_requests::CountRequests;

/// Azure's balancer drops idle flows after 240 s without a reset; a watch ends before that.
pub(super) const WATCH_TIMEOUT: Duration = Duration::from_secs(200);
/// Time until the headers of an answer have to be there; kube 5 has no limit of its own.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(30);

/// No way to an API server was found, or it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no Kubernetes API server is configured: set KUBECONFIG, or run in a Pod with a ServiceAccount")]
    Infer(#[source] Box<InferConfigError>),
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] Box<kube::config::KubeconfigError>),
    #[error("the Kubernetes client cannot be set up")]
    Client(#[from] Box<kube::Error>),
}

/// Connects as the kubeconfig's current context (or `context`) says, or as the Pod's ServiceAccount.
///
/// # Errors
/// When there is no configuration, or it cannot be read.
pub async fn connect(context: Option<&str>, telemetry: Arc<Telemetry>) -> Result<Client, ConnectError> {
    let mut config = match context {
        Some(_) => {
            let kubeconfig = Kubeconfig::read().map_err(Box::new)?;
            let options =
                KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(Box::new)?
        }
        None => Config::infer().await.map_err(|error| ConnectError::Infer(Box::new(error)))?,
    };
    config.read_timeout = Some(WATCH_TIMEOUT + Duration::from_secs(30));
    // Every retry is ours: decided per object, counted, and never hidden inside a call.
    config.default_retry = false;
    let client = ClientBuilder::try_from(config).map_err(Box::new)?;
    let client = client.with_layer(&TimeoutLayer::new(RESPONSE_TIMEOUT));
    Ok(client.with_layer(&CountRequests(telemetry)).build())
}
