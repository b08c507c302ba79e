//! `version`: of this program, of the API in the cluster, and of the operator.

use std::collections::BTreeSet;

use dps_operator_api::names::{GROUP, VERSION};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::APIGroup;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};

use crate::cluster::{Cluster, ClusterFlags};
use crate::failure::{Asked, Failure, Outcome};
use crate::terminal::Output;
use crate::text::{Line, Style, Tree};

/// What the chart labels the operator's Deployment with.
const OPERATOR: &str = "app.kubernetes.io/name=dps-operator";

pub async fn run(output: &Output, flags: &ClusterFlags) -> Result<Outcome, Failure> {
    let mut tree = Tree::new(Line::of(Style::Strong, "kubectl dps"));
    let commit = option_env!("DPS_COMMIT").map_or_else(String::new, |commit| format!(", commit {commit}"));
    tree.row("client", Line::plain(format!("{}{commit}, for {GROUP}/{VERSION}", env!("CARGO_PKG_VERSION"))));
    // Its own version is shown in any case.
    let asked = match Cluster::of(flags).await {
        Ok(cluster) => ask(&mut tree, &cluster).await,
        Err(failure) => Err(failure),
    };
    output.lines(&tree.lines(output.width()))?;
    asked.map(|()| Outcome::Fine)
}

async fn ask(tree: &mut Tree, cluster: &Cluster) -> Result<(), Failure> {
    let served = served(&cluster.client).await?;
    tree.row(
        "API",
        if served.is_empty() {
            Line::of(Style::Bad, "the CRDs are not installed")
        } else if served.contains(VERSION) {
            Line::plain(format!("{GROUP}: {}", join(&served)))
        } else {
            Line::of(Style::Bad, format!("{GROUP}: {}; this program speaks {VERSION}", join(&served)))
        },
    );
    match images(&cluster.client).await {
        Ok(images) if images.is_empty() => {
            tree.row("operator", Line::plain(format!("no Deployment has the label {OPERATOR}")))
        }
        Ok(images) => {
            let mut lines = images.into_iter().map(Line::plain);
            if let Some(first) = lines.next() {
                tree.row("operator", first);
                lines.for_each(|line| tree.more(line));
            }
        }
        // Few people may see it, and it is no harm.
        Err(failure) => tree.row("operator", Line::of(Style::Faint, failure.to_string())),
    }
    Ok(())
}

fn join(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// Versions of the API that the cluster serves.
async fn served(client: &Client) -> Result<BTreeSet<String>, Failure> {
    let groups = client.list_api_groups().await;
    let asked = Asked { verb: "get", resource: "apis", namespace: None, name: None };
    let groups = groups.map_err(|error| asked.failed(&error))?.groups;
    let own = groups.into_iter().find(|group| group.name == GROUP);
    Ok(own
        .map(|APIGroup { versions, .. }| versions.into_iter().map(|of| of.version).collect())
        .unwrap_or_default())
}

/// `namespace/name: image` of each Deployment of the operator.
async fn images(client: &Client) -> Result<Vec<String>, Failure> {
    let asked = Asked { verb: "list", resource: "deployments.apps", namespace: None, name: None };
    let found = Api::<Deployment>::all(client.clone()).list(&ListParams::default().labels(OPERATOR)).await;
    let found = found.map_err(|error| asked.failed(&error))?;
    Ok(found.items.iter().flat_map(described).collect())
}

fn described(deployment: &Deployment) -> Vec<String> {
    let place = format!("{}/{}", deployment.namespace().unwrap_or_default(), deployment.name_any());
    let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.map_or(&[][..], |pod| pod.containers.as_slice());
    containers
        .iter()
        .map(|container| format!("{place}: {}", container.image.as_deref().unwrap_or("no image")))
        .collect()
}
