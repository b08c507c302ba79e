//! How long a new device of another integration takes while something happens to a whole fleet.

use std::time::{Duration, Instant};

use dps_dev::audit::Request;
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::bare;
use crate::report::{Outcome, say, seconds};
use crate::setup::{FACTORY, ID_SCOPE, OTHER_KEY, Setup};
use crate::states::patch_all;

/// Between two new devices.
const PAUSE: Duration = Duration::from_millis(200);
/// New devices while nothing else happens.
const UNDISTURBED: usize = 20;
/// The status of a device whose integration is gone is written at 50 a second; so many are waited for.
const TOLD: usize = 1000;

/// A fleet of `n` devices.
pub async fn run(setup: &mut Setup, n: usize) -> Outcome<()> {
    say(&format!("{n} devices are created…"))?;
    setup.create_devices(0, n).await?;
    bare::create_namespace(setup)?;
    let mut watched = Watched { setup, made: 0, begun: Instant::now() };
    say(
        "a new device of the other integration, from its creation to Ready; bare: the three writes of that by themselves",
    )?;
    print_row(
        &["the fleet is", "taken", "new", "median", "longest", "bare", "longest", "peak KiB"]
            .map(str::to_owned),
    )?;
    watched.begin();
    watched.setup.start_operator()?;
    // Not the one that waits for the operator to read everything.
    watched.one_more(&mut Waits::default()).await?;
    watched.until("registered for the first time", "update provisioneddevices/status", n).await?;
    watched.undisturbed().await?;

    let labels = json!({"spec": {"deviceDefaults": {"secret": {"labels": {"bench": "rewritten"}}}}});
    watched.begin();
    watched.setup.integrations().patch(FACTORY, &PatchParams::default(), &Patch::Merge(labels)).await?;
    watched.until("rewritten (a label of its Secrets)", "patch secrets", n).await?;

    watched.begin();
    let deleted = tokio::spawn(delete_all(watched.setup.secrets(), n));
    watched.until("restored (its Secrets deleted)", "create secrets", n).await?;
    deleted.await??;

    watched.setup.stop_operator()?;
    patch_all(watched.setup, n, true, &json!({"status": null})).await?;
    watched.begin();
    watched.setup.start_operator()?;
    watched.until("taken over without its statuses", "update provisioneddevices/status", n).await?;

    watched.begin();
    watched.setup.dps.control().set_group_keys(ID_SCOPE, "fleet", OTHER_KEY, OTHER_KEY)?;
    watched.setup.set_group_key(OTHER_KEY).await?;
    watched.until("registered again with another key", "update provisioneddevices/status", n).await?;

    watched.begin();
    watched.setup.integrations().delete(FACTORY, &DeleteParams::default()).await?;
    let told = n.min(TOLD);
    watched.until("told that its integration is gone", "update provisioneddevices/status", told).await
}

/// Deletes the Secrets of the first `n` devices, each once: those that are restored meanwhile stay.
async fn delete_all(secrets: Api<Secret>, n: usize) -> kube::Result<()> {
    let delete = |number| {
        let (secrets, name) = (&secrets, format!("{}-hub", Setup::device_name(number)));
        async move { secrets.delete(&name, &DeleteParams::default()).await.map(drop) }
    };
    stream::iter((0..n).map(delete)).buffer_unordered(16).try_collect().await
}

/// New devices of the other integration, one after the other.
struct Watched<'a> {
    setup: &'a mut Setup,
    made: usize,
    begun: Instant,
}

impl Watched<'_> {
    async fn undisturbed(&mut self) -> Outcome<()> {
        self.begin();
        let mut waits = Waits::default();
        while waits.new.len() < UNDISTURBED {
            self.one_more(&mut waits).await?;
        }
        self.print("left alone", waits)
    }

    fn begin(&mut self) {
        self.setup.reset_counts();
        self.begun = Instant::now();
    }

    /// Until the operator has made the request `times` times.
    async fn until(&mut self, what: &str, request: &str, times: usize) -> Outcome<()> {
        let (verb, resource) = request.split_once(' ').ok_or("a request is a verb and a resource")?;
        let request = Request::new(verb, resource);
        let (mut waits, mut seen) = (Waits::default(), 0);
        while seen < times {
            self.one_more(&mut waits).await?;
            seen += self.setup.news(&request)?;
        }
        self.print(what, waits)
    }

    /// Of one and the other in turn: what the API server takes just now is in both.
    async fn one_more(&mut self, waits: &mut Waits) -> Outcome<()> {
        self.made += 1;
        let name = format!("neighbour-{}", self.made);
        waits.new.push(self.setup.time_to_ready_of_other(&name).await?);
        waits.bare.push(bare::one(self.setup, &name).await?);
        tokio::time::sleep(PAUSE).await;
        Ok(())
    }

    fn print(&self, what: &str, waits: Waits) -> Outcome<()> {
        let Waits { mut new, mut bare } = waits;
        new.sort_unstable();
        bare.sort_unstable();
        let milliseconds = |wait: Option<&Duration>| format!("{} ms", wait.map_or(0, Duration::as_millis));
        print_row(&[
            what.to_owned(),
            seconds(self.begun.elapsed()),
            new.len().to_string(),
            milliseconds(new.get(new.len() / 2)),
            milliseconds(new.last()),
            milliseconds(bare.get(bare.len() / 2)),
            milliseconds(bare.last()),
            self.setup.peak_kib()?.to_string(),
        ])
    }
}

/// What new devices took, and what the same writes took by themselves.
#[derive(Default)]
struct Waits {
    new: Vec<Duration>,
    bare: Vec<Duration>,
}

fn print_row([what, taken, new, median, longest, bare, bare_longest, peak]: &[String; 8]) -> Outcome<()> {
    say(&format!(
        "{what:<36} {taken:>9} {new:>6} {median:>10} {longest:>10} {bare:>10} {bare_longest:>10} {peak:>10}"
    ))
}
