//! `rotate`: a change of the group's key, seen from its beginning to its end.

use std::time::Duration;

use dps_operator_api::attestation::KeySlot;
use dps_operator_api::integration::DpsIntegration;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{deadline, integration_name};
use crate::cli::Rotate;
use crate::cluster::{Cluster, now};
use crate::failure::{Failure, Outcome};
use crate::model::asked::keeper;
use crate::model::fleet::key_of;
use crate::model::rotation::{Course, Plan, Rotation, course, plan, slot_name};
use crate::terminal::{Output, Progress, confirmed, note};
use crate::text::{Line, Style};
use crate::view;

/// Between two looks. The operator counts every ten seconds at most.
const PAUSE: Duration = Duration::from_secs(1);

pub async fn run(cluster: &Cluster, output: &Output, arguments: &Rotate) -> Result<Outcome, Failure> {
    let name = integration_name(&arguments.integration)?;
    let integration = cluster.get::<DpsIntegration>(name).await?;
    match arguments.to {
        Some(to) => rotate(cluster, output, arguments, &integration, to.into()).await,
        None => hold(cluster, output, name, arguments.pause).await,
    }
}

/// Pauses the rollout, or lets it go on.
async fn hold(cluster: &Cluster, output: &Output, name: &str, paused: bool) -> Result<Outcome, Failure> {
    let patch = json!({"spec": {"rollout": {"paused": paused}}});
    let integration = change(cluster, name, &patch).await?;
    let text = if paused {
        "is paused: devices in flight are finished, the others stay where they are. --resume lets them go on."
    } else {
        "goes on. \"kubectl dps status\" shows how far it is."
    };
    let title = Line::of(Style::Strong, format!("Work that concerns the fleet of {}", key_of(&integration)));
    output.say(&title.and(Style::Plain, format!(" {text}")))?;
    if let Some(rotation) = Rotation::of(&integration, now()) {
        output.say(&view::rotation::progress(&rotation, now()))?;
    }
    Ok(Outcome::Fine)
}

async fn change(cluster: &Cluster, name: &str, patch: &Value) -> Result<DpsIntegration, Failure> {
    let integration = cluster.patch::<DpsIntegration>(&cluster.namespace, name, patch).await?;
    if let Some(keeper) = keeper(&integration.metadata) {
        note(&format!("{name} is kept by {keeper}, which may set this back: change it in Git, too."));
    }
    Ok(integration)
}

async fn rotate(
    cluster: &Cluster,
    output: &Output,
    arguments: &Rotate,
    integration: &DpsIntegration,
    to: KeySlot,
) -> Result<Outcome, Failure> {
    let name = key_of(integration);
    let own = integration.metadata.name.as_deref().unwrap_or_default();
    let plan = plan(integration, to);
    let generation = match &plan {
        Plan::Impossible(why) => return Err(Failure::NeedsYou(why.clone())),
        Plan::AlreadyAsked => {
            output.say(&Line::plain(format!("{name} asks for the {} key already.", slot_name(to))))?;
            integration.metadata.generation.unwrap_or_default()
        }
        Plan::Move { .. } => {
            for line in view::rotation::plan(&name, to, &plan) {
                output.say(&line)?;
            }
            if !arguments.yes && !confirmed("Go on?").ok_or_else(unasked)? {
                note("Nothing was changed.");
                return Ok(Outcome::Fine);
            }
            let patch = json!({"spec": {"attestation": {"symmetricKey": {"active": slot_name(to)}}}});
            change(cluster, own, &patch).await?.metadata.generation.unwrap_or_default()
        }
    };
    if arguments.no_follow {
        output.say(&Line::plain("\"kubectl dps status\" shows how far it is."))?;
        return Ok(Outcome::Fine);
    }
    follow(cluster, output, own, to, generation, deadline(arguments.timeout)).await
}

fn unasked() -> Failure {
    Failure::Usage(
        "Nothing was changed: there is no terminal to ask on. --yes does it without asking.".to_owned(),
    )
}

/// Shows how far it is until it is over. It goes on without this program, too.
async fn follow(
    cluster: &Cluster,
    output: &Output,
    name: &str,
    to: KeySlot,
    generation: i64,
    deadline: Timestamp,
) -> Result<Outcome, Failure> {
    let mut progress = Progress::new();
    let mut said = String::new();
    loop {
        let integration = cluster.get::<DpsIntegration>(name).await?;
        match course(&integration, to, generation, now()) {
            Course::Over => {
                drop(progress);
                output.say(&Line::of(
                    Style::Good,
                    format!("All devices are registered with the {} key.", slot_name(to)),
                ))?;
                output.say(&Line::plain(
                    "Restart the applications that read their Secret only when they start.",
                ))?;
                return Ok(Outcome::Fine);
            }
            Course::FellBack => return Err(refused(&integration, to)),
            Course::Moves(rotation) if rotation.blocked => return Err(refused(&integration, to)),
            Course::Begins => progress.show(|| "waiting until the operator has looked at it…".to_owned()),
            Course::Moves(rotation) => {
                let line = view::rotation::progress(&rotation, now());
                let step = format!("{}/{} {}", rotation.done, rotation.total, rotation.paused);
                if progress.is_seen() {
                    progress.show(|| line.paint(false));
                } else if step != said {
                    output.say(&line)?;
                    said = step;
                }
            }
        }
        if now() >= deadline {
            return Err(Failure::NeedsYou(
                "Time is up, and the rotation goes on: \"kubectl dps status\" shows how far it is."
                    .to_owned(),
            ));
        }
        sleep(PAUSE).await;
    }
}

/// The operator's own words are in the status.
fn refused(integration: &DpsIntegration, to: KeySlot) -> Failure {
    let (name, slot) = (key_of(integration), slot_name(to));
    Failure::NeedsYou(format!(
        "DPS refuses the {slot} key of {name}. Devices that were not moved keep what they have. Put the right key into the \
         Secret, which is tried at once; or set the other slot again with \"kubectl dps rotate {} --to {}\".",
        integration.metadata.name.as_deref().unwrap_or_default(),
        if to == KeySlot::Primary { "secondary" } else { "primary" },
    ))
}
