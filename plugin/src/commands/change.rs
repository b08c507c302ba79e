//! `retry`, `reprovision`, `suspend` and `resume`: what is asked of the operator by a change of an object.

use std::collections::BTreeSet;

use dps_operator_api::device::ProvisionedDevice;
use dps_operator_api::integration::DpsIntegration;
use jiff::Timestamp;

use super::{deadline, wait_for};
use crate::cli::{Reprovision, Retry, Suspend, Waiting};
use crate::cluster::{Cluster, Kind, now};
use crate::failure::{Failure, Outcome};
use crate::model::State;
use crate::model::asked::{Answer, Askable, Wish, keeper};
use crate::model::brief::Brief;
use crate::targets::Target;
use crate::terminal::{Output, Progress, note};
use crate::text::{Line, Style};

/// A namespace and a name.
type Key = (String, String);

pub async fn retry(cluster: &Cluster, output: &Output, arguments: &Retry) -> Result<Outcome, Failure> {
    let Retry { targets, all, failed, all_namespaces, waiting } = arguments;
    let wish = Wish::Retry(now().to_string());
    if !*all && !*failed {
        return each_named(cluster, output, targets, &wish, *waiting).await;
    }
    let namespace = (!all_namespaces).then_some(cluster.namespace.as_str());
    let mut keys = Vec::new();
    let take = |device: ProvisionedDevice| {
        let Brief { namespace, name, state, .. } = Brief::of(&device);
        if *all || state == State::NeedsYou {
            keys.push((namespace, name));
        }
    };
    cluster.each(namespace, take).await?;
    if keys.is_empty() {
        note(if *all { "There are no devices." } else { "No device has failed." });
    }
    ask_all::<ProvisionedDevice>(cluster, output, &keys, &wish, *waiting).await
}

pub async fn reprovision(
    cluster: &Cluster,
    output: &Output,
    arguments: &Reprovision,
) -> Result<Outcome, Failure> {
    let Reprovision { targets, waiting } = arguments;
    if let Some(Target::Integration(name)) =
        targets.iter().find(|target| matches!(target, Target::Integration(_)))
    {
        return Err(Failure::Usage(format!(
            "reprovision is for single devices. To register all devices of integration {name} once more, annotate it: \
             kubectl annotate dpsi {name} dps-operator.io/reprovision-requested-at=\"$(date)\" --overwrite"
        )));
    }
    each_named(cluster, output, targets, &Wish::Reprovision(now().to_string()), *waiting).await
}

pub async fn suspend(
    cluster: &Cluster,
    output: &Output,
    arguments: &Suspend,
    suspend: bool,
) -> Result<Outcome, Failure> {
    let Suspend { targets, waiting } = arguments;
    each_named(cluster, output, targets, &Wish::Suspend(suspend), *waiting).await
}

/// A bare name is a device's.
async fn each_named(
    cluster: &Cluster,
    output: &Output,
    targets: &[Target],
    wish: &Wish,
    waiting: Waiting,
) -> Result<Outcome, Failure> {
    let (mut devices, mut integrations) = (Vec::new(), Vec::new());
    for target in targets {
        let (keys, name) = match target {
            Target::Named(name) | Target::Device(name) => (&mut devices, name),
            Target::Integration(name) => (&mut integrations, name),
        };
        keys.push((cluster.namespace.clone(), name.clone()));
    }
    let first = ask_all::<DpsIntegration>(cluster, output, &integrations, wish, waiting).await;
    // What went wrong with the one is no reason to leave out the others.
    let second = ask_all::<ProvisionedDevice>(cluster, output, &devices, wish, waiting).await;
    first.and(second)
}

/// Asks each of them, then waits for all; what goes wrong with one is said, and the others go on.
async fn ask_all<K: Kind + Askable>(
    cluster: &Cluster,
    output: &Output,
    keys: &[Key],
    wish: &Wish,
    waiting: Waiting,
) -> Result<Outcome, Failure> {
    let mut troubles = Troubles { of: keys.len(), word: K::WORD, found: Vec::new() };
    let (mut asked, mut meanings) = (Vec::new(), BTreeSet::new());
    let mut progress = Progress::new();
    for (at, (namespace, name)) in keys.iter().enumerate() {
        let object = match cluster.patch::<K>(namespace, name, &wish.patch()).await {
            Ok(object) => object,
            Err(Failure::NeedsYou(why)) => {
                troubles.add(why);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let Answer { short, meaning, is_awaited } = object.answer(wish);
        output.lines(&[named::<K>(namespace, name).and(Style::Plain, format!(" {short}"))])?;
        meanings.insert(meaning);
        if let (Wish::Suspend(_), Some(keeper)) = (wish, keeper(object.meta())) {
            note(&format!(
                "{namespace}/{name} is kept by {keeper}, which may set this back: change it in Git, too."
            ));
        }
        if is_awaited {
            asked.push((namespace.clone(), name.clone()));
        }
        progress.show(|| format!("{} of {}…", at + 1, keys.len()));
    }
    drop(progress);
    for meaning in meanings {
        output.say(&Line::of(Style::Faint, meaning))?;
    }
    if waiting.wait {
        wait_for_all::<K>(cluster, output, &asked, wish, deadline(waiting.timeout), &mut troubles).await?;
    }
    troubles.result()
}

fn named<K: Askable>(namespace: &str, name: &str) -> Line {
    Line::of(Style::Strong, format!("{} {namespace}/{name}", K::WORD))
}

/// What went wrong with some of many.
struct Troubles {
    of: usize,
    word: &'static str,
    found: Vec<String>,
}

impl Troubles {
    /// Says it at once, unless it will be all that is said.
    fn add(&mut self, why: String) {
        if self.of > 1 {
            note(&format!("error: {why}"));
        }
        self.found.push(why);
    }

    fn result(self) -> Result<Outcome, Failure> {
        let Self { of, word, found } = self;
        match found.as_slice() {
            [] => Ok(Outcome::Fine),
            [why] if of == 1 => Err(Failure::NeedsYou(why.clone())),
            found => Err(Failure::NeedsYou(format!("{} of {of} {word}s: see above.", found.len()))),
        }
    }
}

async fn wait_for_all<K: Kind + Askable>(
    cluster: &Cluster,
    output: &Output,
    keys: &[Key],
    wish: &Wish,
    deadline: Timestamp,
    troubles: &mut Troubles,
) -> Result<(), Failure> {
    let mut progress = Progress::new();
    for (at, (namespace, name)) in keys.iter().enumerate() {
        progress.show(|| format!("waiting: {at} of {} are done…", keys.len()));
        let taken_up = |object: &K| object.has_taken_up(wish);
        if wait_for(cluster, (namespace, name), deadline, taken_up).await?.is_some() {
            output.lines(&[named::<K>(namespace, name).and(Style::Good, " done")])?;
        } else {
            let word = K::WORD;
            troubles.add(format!(
                "{word} {namespace}/{name} is not done yet. \"kubectl dps status -n {namespace} {word}/{name}\" says what \
                 it waits for."
            ));
        }
    }
    Ok(())
}
