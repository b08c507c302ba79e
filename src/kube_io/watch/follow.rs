//! What a watch asks the API server for, and what it makes known: objects to the loop, its age and its
//! failures to metrics, readiness and the log.

use std::collections::hash_map::RandomState;
use std::fmt::Debug;
use std::hash::BuildHasher;
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use kube::api::Api;
use kube::core::WatchEvent;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{debug, info, warn};

use super::course::{Course, Next, Transition};
use super::{Observed, POLL_INTERVAL, WatchScope};
use crate::clock;
use crate::kube_io::cause::{Cause, CauseKind};
use crate::kube_io::client::ApiServer;
use crate::telemetry::watches::WatchHandle;

/// After an outage everybody asks, but not in the same moment.
const TOGETHER: Duration = Duration::from_millis(500);

/// Objects of a usual size; larger ones come in smaller pages, from then on.
const PAGE_SIZE: u32 = 500;
const SMALLER_BY: u32 = 5;

/// Makes a message of what is observed.
pub trait Wrap<K, M>: Fn(Observed<K>) -> M {}

impl<K, M, F: Fn(Observed<K>) -> M> Wrap<K, M> for F {}

/// Why a step did not succeed.
enum Stop {
    Failed(Cause),
    /// The receiver is gone.
    Over,
}

/// What a stream has said.
enum Seen<W> {
    Mark,
    Present(W),
    Gone(W),
}

impl From<kube::Error> for Stop {
    fn from(error: kube::Error) -> Self {
        Self::Failed(Cause::from(&error))
    }
}

/// Follows one watch, or reads one object again and again, for as long as the receiver is there.
pub(super) struct Follower<K, M, F: Wrap<K, M>> {
    server: ApiServer,
    scope: WatchScope,
    sender: Sender<M>,
    wrap: F,
    course: Course,
    /// Objects of a page.
    page: u32,
    shown: WatchHandle,
    kind: std::marker::PhantomData<fn(K) -> M>,
}

impl<K, M, F: Wrap<K, M>> Follower<K, M, F> {
    pub fn new(server: ApiServer, scope: WatchScope, sender: Sender<M>, wrap: F) -> Self {
        let shown = server.telemetry.watches.begin(scope.kind, scope.is_part);
        let (course, kind) = (Course::new(), std::marker::PhantomData);
        Self { server, scope, sender, wrap, course, page: PAGE_SIZE, shown, kind }
    }

    pub async fn watch<W>(mut self, api: &Api<W>, open: fn(W) -> Option<K>)
    where
        W: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
        K: Resource<DynamicType = ()>,
    {
        loop {
            let begun = now();
            let done = match self.course.next() {
                Next::List => self.list(api, open).await,
                Next::Check => self.check(api).await,
                Next::Watch => self.stream(api, open).await,
            };
            if self.after(done, begun).await.is_err() {
                return;
            }
            self.pause().await;
        }
    }

    /// `slots`: others read at the same time, too.
    pub async fn poll(mut self, api: &Api<K>, slots: &Semaphore)
    where
        K: Clone + Debug + DeserializeOwned,
    {
        loop {
            let begun = now();
            // They are never closed.
            let slot = slots.acquire().await.ok();
            let done = self.read(api).await;
            drop(slot);
            let well = done.is_ok();
            if self.after(done, begun).await.is_err() {
                return;
            }
            if well {
                sleep(POLL_INTERVAL.mul_f64(0.75 + spread() / 4.0)).await;
            } else {
                self.pause().await;
            }
        }
    }

    async fn list<W>(&mut self, api: &Api<W>, open: fn(W) -> Option<K>) -> Result<(), Stop>
    where
        W: Resource + Clone + Debug + DeserializeOwned,
        K: Resource,
    {
        let mut go_on = None;
        let mut listed: Option<String> = None;
        loop {
            let page = match api.list(&self.scope.list(self.page, go_on.clone())).await {
                Ok(page) => page,
                Err(error) if self.page > 1 && Cause::from(&error).kind == CauseKind::TooLong => {
                    self.page = (self.page / SMALLER_BY).max(1);
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            if listed.is_none() {
                // All pages are of one version.
                let version = stated(page.metadata.resource_version)?;
                self.send(Observed::Listing(self.course.list_begins(&version))).await?;
                listed = Some(version);
            }
            for object in page.items {
                self.send_readable(object, open, Observed::Present).await?;
            }
            go_on = page.metadata.continue_.filter(|token| !token.is_empty());
            if go_on.is_none() {
                break;
            }
        }
        self.send(Observed::Listed).await?;
        self.course.listed(&listed.unwrap_or_default(), now());
        self.shown.confirmed(now());
        Ok(())
    }

    async fn check<W>(&mut self, api: &Api<W>) -> Result<(), Stop>
    where
        W: Clone + Debug + DeserializeOwned,
    {
        let page = api.list(&self.scope.list(1, None)).await?;
        self.course.checked(&stated(page.metadata.resource_version)?);
        if self.course.next() == Next::List {
            warn!(
                kind = self.scope.kind,
                namespace = self.scope.namespace,
                "the API server's versions went back, as after a restore of etcd; everything is read again"
            );
        }
        Ok(())
    }

    /// One stream, until it ends, fails or is given up.
    async fn stream<W>(&mut self, api: &Api<W>, open: fn(W) -> Option<K>) -> Result<(), Stop>
    where
        W: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + 'static,
        K: Resource,
    {
        let events = api.watch(&self.scope.watch(), self.course.position()).await?;
        pin_mut!(events);
        self.course.opened(now());
        loop {
            let look_at = self.course.look_at().unwrap_or_else(now);
            let Ok(event) = timeout_at(look_at, events.next()).await else {
                if self.course.still_open(now()) {
                    return Err(Stop::Failed(Cause::of(CauseKind::Silent)));
                }
                self.show();
                continue;
            };
            let (version, seen) = match event {
                None => {
                    self.course.ended(now());
                    return Ok(());
                }
                Some(Err(error)) => return Err(error.into()),
                Some(Ok(WatchEvent::Error(status))) => return Err(Stop::Failed(Cause::status(&status))),
                Some(Ok(WatchEvent::Bookmark(mark))) => (Some(mark.metadata.resource_version), Seen::Mark),
                Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object))) => {
                    (object.resource_version(), Seen::Present(object))
                }
                Some(Ok(WatchEvent::Deleted(object))) => (object.resource_version(), Seen::Gone(object)),
            };
            let version = stated(version)?;
            match seen {
                Seen::Mark => {}
                Seen::Present(object) => self.send_readable(object, open, Observed::Present).await?,
                Seen::Gone(object) => self.send_readable(object, open, Observed::Gone).await?,
            }
            self.course.spoke(&version, now());
            self.shown.confirmed(now());
            self.show();
        }
    }

    async fn read(&mut self, api: &Api<K>) -> Result<(), Stop>
    where
        K: Clone + Debug + DeserializeOwned,
    {
        let found = api.get_opt(self.scope.name.as_deref().unwrap_or_default()).await?;
        self.send(Observed::Listing(u64::MAX)).await?;
        if let Some(object) = found {
            self.send(Observed::Present(object)).await?;
        }
        self.send(Observed::Listed).await?;
        self.course.polled(now());
        self.shown.confirmed(now());
        Ok(())
    }

    async fn send_readable<W>(
        &self,
        object: W,
        open: fn(W) -> Option<K>,
        as_what: fn(K) -> Observed<K>,
    ) -> Result<(), Stop>
    where
        K: Resource,
    {
        let Some(mut object) = open(object) else { return Ok(()) };
        // Three quarters of an object's memory, and nothing reads them.
        object.managed_fields_mut().clear();
        self.send(as_what(object)).await
    }

    async fn send(&self, observed: Observed<K>) -> Result<(), Stop> {
        self.sender.send((self.wrap)(observed)).await.map_err(|_| Stop::Over)
    }

    /// Takes in how a step has ended and makes it known.
    async fn after(&mut self, done: Result<(), Stop>, begun: Instant) -> Result<(), Stop> {
        match done {
            Ok(()) => {}
            Err(Stop::Failed(mut cause)) => {
                if cause.kind == CauseKind::Busy {
                    cause.retry_after = cause.retry_after.or(self.server.answers.retry_after());
                }
                debug!(kind = self.scope.kind, cause = cause.text, "a list or a watch failed");
                self.course.failed(cause, begun, now());
            }
            Err(Stop::Over) => return Err(Stop::Over),
        }
        self.show();
        if self.course.is_refused(now()) {
            self.send(Observed::Forbidden).await?;
        }
        Ok(())
    }

    /// Waits until it is time to ask again, or until the server answers to somebody.
    async fn pause(&mut self) {
        let at = self.course.ask_at(spread(), now());
        let mut recovery = self.server.answers.recovery();
        tokio::select! {
            () = sleep_until(at) => {}
            () = recovery.wait(), if self.course.may_hurry() => sleep(TOGETHER.mul_f64(spread())).await,
        }
    }

    fn show(&mut self) {
        let now = now();
        let WatchScope { kind, namespace, name, .. } = &self.scope;
        let address = &*self.server.address;
        match self.course.transition(now) {
            Some(Transition::Fails { cause, lasted }) => warn!(
                kind,
                namespace,
                name,
                api_server = address,
                cause = cause.text,
                "a watch has failed for {} s, so what is known of this kind may be out of date; it is tried \
                 again every few seconds",
                lasted.as_secs()
            ),
            Some(Transition::Recovered { lasted }) => info!(
                kind,
                namespace,
                name,
                api_server = address,
                "the watch is back after {} s",
                lasted.as_secs()
            ),
            None => {}
        }
        self.shown.set_stale(self.course.is_stale(now));
    }
}

fn now() -> Instant {
    clock::now().mono
}

/// The version that an answer has to state.
fn stated(version: Option<String>) -> Result<String, Stop> {
    let version = version.filter(|version| !version.is_empty());
    version.ok_or_else(|| Stop::Failed(Cause::of(CauseKind::Unreadable)))
}

/// From 0 to 1, at random.
fn spread() -> f64 {
    let random = RandomState::new().hash_one(());
    f64::from(u32::try_from(random >> 32).unwrap_or(0)) / f64::from(u32::MAX)
}
