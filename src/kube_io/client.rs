//! The client, set up for a long-running process behind load balancers.

use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use kube::Client;
use kube::client::ClientBuilder;
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::answers::Answers;
use super::deadline::{ANSWER, Deadline};
use super::note::Note;
use super::tenure::Tenure;
use crate::telemetry::Telemetry;

/// Azure's balancer drops idle flows after 240 s without a reset; a watch ends before that.
pub(super) const WATCH_TIMEOUT: Duration = Duration::from_secs(200);
/// Stands for "no proxy" while a kubeconfig is read: where one names none, kube takes the proxy of the
/// environment, and ends if that cannot be used. A name that can never exist.
const NO_PROXY: &str = "http://no-proxy.invalid";

/// The API server, as watches need it.
#[derive(Clone)]
pub struct ApiServer {
    pub client: Client,
    /// Where it is, for the log.
    pub(super) address: Arc<str>,
    pub answers: Answers,
    pub(super) telemetry: Arc<Telemetry>,
    /// Until when this process may act: its client writes nothing after that.
    pub tenure: Tenure,
}

impl ApiServer {
    /// One that is reached by a client that was made by others.
    #[cfg(test)]
    pub fn of(client: Client, telemetry: Arc<Telemetry>) -> Self {
        let until = tokio::time::Instant::now() + Duration::from_secs(1_000_000);
        let tenure = Tenure::new(tokio::sync::watch::channel(Some(until)).1);
        Self { client, address: Arc::from("in memory"), answers: Answers::new(), telemetry, tenure }
    }
}

/// No way to an API server was found, or it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "no Kubernetes API server is configured: set KUBECONFIG, or run in a Pod with a ServiceAccount \
         (kubeconfig: {kubeconfig})"
    )]
    Nowhere {
        kubeconfig: Box<KubeconfigError>,
        #[source]
        in_cluster: InClusterError,
    },
    #[error(
        "the kubeconfig's cluster has a proxy-url, which cannot be used: the operator reaches the API server \
         directly; take it out of the copy that KUBECONFIG names for the operator"
    )]
    Proxy,
    #[error("the kubeconfig cannot be used")]
    Kubeconfig(#[from] Box<KubeconfigError>),
    #[error("the Kubernetes client cannot be set up")]
    Client(#[from] Box<kube::Error>),
}

/// Connects as the kubeconfig's current context (or `context`) says, or as the Pod's ServiceAccount.
/// Nothing but a lease is written outside of the tenure.
///
/// # Errors
/// When there is no configuration, or it cannot be read.
pub async fn connect(
    context: Option<&str>,
    tenure: Tenure,
    telemetry: Arc<Telemetry>,
) -> Result<ApiServer, ConnectError> {
    let config = match (of_kubeconfig(context).await, context) {
        (Ok(config), _) => config,
        (Err(error), Some(_)) => return Err(Box::new(error).into()),
        (Err(kubeconfig), None) => Config::incluster()
            .map_err(|in_cluster| ConnectError::Nowhere { kubeconfig: Box::new(kubeconfig), in_cluster })?,
    };
    if config.proxy_url.is_some() {
        return Err(ConnectError::Proxy);
    }
    set_up(config, tenure, telemetry)
}

fn set_up(mut config: Config, tenure: Tenure, telemetry: Arc<Telemetry>) -> Result<ApiServer, ConnectError> {
    config.read_timeout = Some(WATCH_TIMEOUT + Duration::from_secs(30));
    // Every retry is ours: decided per object, counted, and never hidden inside a call.
    config.default_retry = false;
    let (address, answers) = (Arc::from(config.cluster_url.to_string()), Answers::new());
    let note = Note { answers: answers.clone(), telemetry: telemetry.clone() };
    let client = ClientBuilder::try_from(config).map_err(Box::new)?;
    let client = client.with_layer(&tenure).with_layer(&Deadline(ANSWER)).with_layer(&note).build();
    Ok(ApiServer { client, address, answers, telemetry, tenure })
}

/// The proxy variables of the environment are ignored, as they are for calls to DPS and in a Pod.
async fn of_kubeconfig(context: Option<&str>) -> Result<Config, KubeconfigError> {
    let mut kubeconfig = Kubeconfig::read()?;
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        if cluster.proxy_url.as_ref().is_none_or(String::is_empty) {
            cluster.proxy_url = Some(NO_PROXY.to_owned());
        }
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
    config.proxy_url = config.proxy_url.take().filter(|proxy| proxy.host() != host(NO_PROXY).as_deref());
    Ok(config)
}

fn host(uri: &str) -> Option<String> {
    uri.parse::<Uri>().ok()?.host().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::Api;
    use tokio::sync::watch;
    use tokio::time::Instant;

    use super::*;

    /// The paused clock runs ahead whenever all tasks wait.
    #[tokio::test(start_paused = true)]
    async fn a_request_that_is_never_answered_is_given_up_long_before_a_watch_is() {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // The system connects; the listener accepts nothing.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let config = Config::new(format!("http://{}", silent.local_addr().unwrap()).parse().unwrap());
        let tenure = Tenure::new(watch::channel(Some(Instant::now() + WATCH_TIMEOUT)).1);
        let server = set_up(config, tenure, Arc::new(Telemetry::new().unwrap())).unwrap();
        let begun = Instant::now();

        let read = Api::<Secret>::namespaced(server.client, "fleet").get_opt("truck-1-hub").await;

        assert!(read.is_err());
        assert_eq!(begun.elapsed().as_secs(), ANSWER.as_secs());
    }
}
