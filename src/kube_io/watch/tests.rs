//! A watch against an API server that misbehaves, in time that is made up.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::{Instant, sleep};

use super::*;
use crate::kube_io::tests::scripted::{Asked, Fault, Scripted};
use crate::telemetry::Telemetry;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// A watch, what it has shown, and the server that it asks.
struct Watch {
    api: Scripted,
    telemetry: Arc<Telemetry>,
    observed: Receiver<Observed<Secret>>,
    known: BTreeSet<String>,
    listed: Option<BTreeSet<String>>,
    lists: Vec<u64>,
    refusals: usize,
}

impl Watch {
    /// Of a server on which these faults are.
    fn with(lists: Option<Fault>, watches: Option<Fault>) -> Self {
        let (api, telemetry) = (Scripted::new(), Arc::new(Telemetry::new().unwrap()));
        api.put("first");
        api.fail(lists, watches);
        let (sender, observed) = channel(1024);
        let scope = WatchScope { kind: "secrets", ..WatchScope::default() };
        tokio::spawn(run::<Secret, _>(api.server(telemetry.clone()), scope, sender, |observed| observed));
        let (known, lists) = (BTreeSet::new(), Vec::new());
        Self { api, telemetry, observed, known, listed: None, lists, refusals: 0 }
    }

    /// One that is up and has been for a while.
    async fn up() -> Self {
        let mut watch = Self::with(None, None);
        watch.pass(10 * SECOND).await;
        assert!(watch.knows("first") && !watch.is_stale());
        watch
    }

    /// Lets time go by and takes in what is shown.
    async fn pass(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            sleep(SECOND / 4).await;
            while let Ok(observed) = self.observed.try_recv() {
                self.take(observed);
            }
        }
    }

    fn take(&mut self, observed: Observed<Secret>) {
        match observed {
            Observed::Listing(version) => {
                self.lists.push(version);
                self.listed = Some(BTreeSet::new());
            }
            Observed::Present(secret) => {
                self.listed.as_mut().map(|listed| listed.insert(secret.name_any()));
                self.known.insert(secret.name_any());
            }
            Observed::Gone(secret) => drop(self.known.remove(&secret.name_any())),
            Observed::Listed => self.known = self.listed.take().unwrap(),
            Observed::Forbidden => self.refusals += 1,
        }
    }

    /// How long it takes until the condition holds; `None` if it does not within the time.
    async fn until(&mut self, most: Duration, holds: impl Fn(&Self) -> bool) -> Option<Duration> {
        let begun = Instant::now();
        while !holds(self) {
            if begun.elapsed() > most {
                return None;
            }
            self.pass(SECOND / 4).await;
        }
        Some(begun.elapsed())
    }

    fn knows(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    fn is_stale(&self) -> bool {
        self.telemetry.watches.stale() == ["secrets"]
    }

    fn asked(&self, since: Instant) -> usize {
        [Asked::List, Asked::Check, Asked::Watch].map(|asked| self.api.asked_since(since, asked)).iter().sum()
    }
}

/// All faults that make a watch deaf while lists go on.
const OF_WATCHES: [Fault; 18] = [
    Fault::Status(400),
    Fault::Status(401),
    Fault::Status(403),
    Fault::Status(404),
    Fault::Status(410),
    Fault::Status(429),
    Fault::Status(500),
    Fault::Status(503),
    Fault::Status(504),
    Fault::Busy(5),
    Fault::Refused,
    Fault::Hangs,
    Fault::Garbage,
    Fault::InStream(410),
    Fault::InStream(500),
    Fault::Mute(Duration::ZERO),
    Fault::Mute(Duration::from_secs(2)),
    Fault::Deaf,
];

#[tokio::test(start_paused = true)]
async fn no_fault_of_a_watch_makes_it_deaf_for_long_or_stays_hidden() {
    for fault in OF_WATCHES {
        let mut watch = Watch::with(None, Some(fault));
        watch.pass(5 * MINUTE).await;
        assert!(watch.is_stale(), "{fault:?} stays green");
        // A list a minute: at the longest one that is not due yet, a wait of 8 s, a watch of 2 s, a wait of 8 s.
        let (begun, most) = (Instant::now(), if fault == Fault::Deaf { 110 } else { 79 });
        watch.api.put("new");
        let took = watch.until(5 * MINUTE, |watch| watch.knows("new")).await;
        assert!(took.is_some_and(|took| took.as_secs() <= most), "{fault:?}: seen after {took:?}");
        watch.api.delete("first");
        let took = watch.until(5 * MINUTE, |watch| !watch.knows("first")).await;
        assert!(took.is_some_and(|took| took.as_secs() <= most), "{fault:?}: its end seen after {took:?}");

        watch.pass(5 * MINUTE).await;
        let rate = watch.asked(begun) as f64 / begun.elapsed().as_secs_f64();
        assert!(rate < 0.6, "{fault:?}: {rate} requests a second");
        watch.api.fail(None, None);
        let took = watch.until(5 * MINUTE, |watch| !watch.is_stale()).await;
        let most = if fault == Fault::Deaf { 170 } else { 79 };
        assert!(took.is_some_and(|took| took.as_secs() <= most), "{fault:?}: green after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_up_and_then_fails_with_everything_is_shown_and_comes_back_by_itself() {
    for fault in OF_WATCHES.into_iter().filter(|fault| !fault.is_of_streams()) {
        let mut watch = Watch::up().await;
        watch.api.fail(Some(fault), Some(fault));
        watch.api.cut();
        watch.pass(3 * SECOND).await;
        assert!(!watch.is_stale(), "{fault:?} is shown before it lasts");
        watch.pass(10 * MINUTE).await;
        assert!(watch.is_stale(), "{fault:?}");

        watch.api.put("new");
        watch.api.fail(None, None);

        let most = if fault == Fault::Hangs { 45 } else { 15 };
        let took = watch.until(5 * MINUTE, |watch| watch.knows("new") && !watch.is_stale()).await;
        assert!(took.is_some_and(|took| took.as_secs() <= most), "{fault:?}: back after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn lists_that_fail_from_the_start_are_shown_and_the_first_that_does_not_is_taken() {
    for fault in OF_WATCHES.into_iter().filter(|fault| !fault.is_of_streams()) {
        let mut watch = Watch::with(Some(fault), None);
        let stale = watch.until(MINUTE, Watch::is_stale).await;
        assert!(stale.is_some_and(|took| took.as_secs() <= 31), "{fault:?}: stale after {stale:?}");
        watch.api.fail(None, None);
        let took = watch.until(2 * MINUTE, |watch| watch.knows("first")).await;
        assert!(took.is_some_and(|took| took.as_secs() <= 31), "{fault:?}: read after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_that_end_are_gone_on_from_without_a_list_and_without_haste() {
    for fault in [Fault::Ends(SECOND / 10), Fault::Ends(SECOND), Fault::Ends(MINUTE), Fault::Breaks(MINUTE)] {
        let mut watch = Watch::up().await;
        watch.api.fail(None, Some(fault));
        watch.api.cut();
        let begun = Instant::now();
        for n in 0..40 {
            watch.api.put(&format!("new-{n}"));
            let took = watch.until(MINUTE, |watch| watch.knows(&format!("new-{n}"))).await;
            assert!(took.is_some_and(|took| took.as_secs() <= 9), "{fault:?}: {took:?}");
            watch.pass(5 * SECOND).await;
        }
        assert_eq!(watch.api.asked_since(begun, Asked::List), 0, "{fault:?}");
        let rate = watch.asked(begun) as f64 / begun.elapsed().as_secs_f64();
        assert!(rate < 1.1, "{fault:?}: {rate} requests a second");
        assert!(!watch.is_stale(), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_quiet_watch_is_confirmed_by_its_list_and_by_bookmarks_and_costs_one_request_in_its_life() {
    // The list itself confirms what it shows, also while no watch begins.
    let mut late = Watch::with(Some(Fault::Status(503)), Some(Fault::Status(503)));
    late.pass(2 * MINUTE).await;
    late.api.fail(None, Some(Fault::Status(503)));
    assert!(late.until(MINUTE, |watch| watch.knows("first")).await.is_some());
    assert!(late.telemetry.watches.by_kind()["secrets"].age <= SECOND);
    let mut watch = Watch::up().await;
    let begun = Instant::now();
    for _ in 0..60 {
        watch.pass(MINUTE).await;
        let age = watch.telemetry.watches.by_kind()["secrets"].age;
        // The last bookmark of one stream, and the first of the next.
        assert!(age.as_secs() <= 85 && !watch.is_stale(), "{age:?}");
    }
    assert!(watch.asked(begun) <= 19, "{} requests in an hour", watch.asked(begun));
    assert_eq!(watch.api.asked_since(begun, Asked::List), 0);
}

#[tokio::test(start_paused = true)]
async fn an_object_that_is_read_again_and_again_is_as_old_as_its_last_reading() {
    let (api, telemetry) = (Scripted::new(), Arc::new(Telemetry::new().unwrap()));
    api.put("first");
    let (sender, mut observed) = channel(1024);
    let (namespace, name) = (Some("fleet".to_owned()), Some("first".to_owned()));
    let scope = WatchScope { kind: "references", namespace, name, is_part: true, ..WatchScope::default() };
    let (server, slots) = (api.server(telemetry.clone()), Arc::new(Semaphore::new(1)));
    tokio::spawn(poll::<Secret, _>(server, scope, slots, sender, |observed| observed));
    for _ in 0..20 {
        sleep(MINUTE).await;
        let read = std::iter::from_fn(|| observed.try_recv().ok());
        assert!(read.count() > 0);
        let state = telemetry.watches.by_kind()["references"];
        assert!(state.age <= MINUTE && state.stale == 0, "{state:?}");
    }
    api.fail(Some(Fault::Refused), None);
    sleep(10 * MINUTE).await;
    let state = telemetry.watches.by_kind()["references"];
    assert!(state.age >= 9 * MINUTE && state.stale == 1, "{state:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_went_back_is_noticed_and_read_as_the_truth() {
    // As seen by a watch that goes on, and by one that the server has ended.
    for ended in [false, true] {
        let mut watch = Watch::up().await;
        let before = watch.api.version();
        watch.api.put("lost");
        watch.api.delete("first");
        watch.pass(SECOND).await;
        assert!(watch.knows("lost") && !watch.knows("first"));
        watch.lists.clear();

        watch.api.go_back(before);
        if ended {
            watch.api.cut();
        }
        let took = watch.until(10 * MINUTE, |watch| watch.knows("first") && !watch.knows("lost")).await;

        let most = if ended { 2 } else { 110 };
        assert!(took.is_some_and(|took| took.as_secs() <= most), "{took:?}");
        assert_eq!(watch.lists, [u64::MAX], "what is known gives way");
        watch.api.put("next");
        assert!(watch.until(SECOND, |watch| watch.knows("next")).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_believed_once_it_lasts() {
    for (spell, refusals) in [(3, 0), (12, 0), (40, 0), (90, 1), (600, 1)] {
        let mut watch = Watch::up().await;
        watch.api.fail(Some(Fault::Status(403)), Some(Fault::Status(403)));
        watch.api.cut();
        watch.pass(Duration::from_secs(spell)).await;
        assert_eq!(watch.refusals, refusals, "after {spell} s");
        watch.api.put("new");
        watch.api.fail(None, None);
        assert!(watch.until(10 * SECOND, |watch| watch.knows("new")).await.is_some());
    }
    // At the start nothing was admitted before.
    let mut watch = Watch::with(Some(Fault::Status(403)), None);
    watch.pass(10 * SECOND).await;
    assert_eq!(watch.refusals, 0);
    watch.pass(20 * SECOND).await;
    assert_eq!(watch.refusals, 1, "said once");
    watch.api.fail(None, None);
    assert!(watch.until(10 * SECOND, |watch| watch.knows("first")).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn after_an_outage_of_any_length_watches_are_back_within_seconds() {
    for (fault, minutes) in [(Fault::Refused, 1), (Fault::Refused, 60), (Fault::Status(503), 10)] {
        let mut watch = Watch::up().await;
        watch.api.fail(Some(fault), Some(fault));
        watch.api.cut();
        watch.pass(minutes * MINUTE).await;
        watch.api.put("new");
        watch.api.fail(None, None);
        let took = watch.until(MINUTE, |watch| watch.knows("new")).await;
        assert!(took.is_some_and(|took| took.as_secs() <= 9), "{fault:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_to_wait_is_not_asked_before() {
    let mut watch = Watch::with(Some(Fault::Busy(45)), None);
    let begun = Instant::now();
    watch.pass(40 * SECOND).await;
    assert_eq!(watch.asked(begun), 1);
    watch.pass(20 * SECOND).await;
    assert_eq!(watch.asked(begun), 2);
    // One that asks for a day is asked again all the same.
    watch.api.fail(Some(Fault::Busy(86_400)), None);
    watch.pass(MINUTE).await;
    let before = watch.asked(begun);
    watch.pass(2 * MINUTE).await;
    assert!(watch.asked(begun) > before);
}

/// The longest answer that is read bounds what a list takes of memory, however large they are.
#[tokio::test(start_paused = true)]
async fn large_objects_are_listed_in_smaller_pages() {
    for (objects, bytes, asked) in [(2_000, 100, 5), (600, 20_000, 8), (30, 1_500_000, 11)] {
        let mut watch = Watch::with(Some(Fault::Refused), None);
        for object in 0..objects {
            watch.api.put_of(&format!("truck-{object:04}"), bytes);
        }
        let begun = Instant::now();
        watch.api.fail(None, None);

        let took = watch.until(10 * SECOND, |watch| watch.known.len() > objects).await;

        assert!(took.is_some(), "{objects} of {bytes} bytes: {} known", watch.known.len());
        assert_eq!(watch.lists.len(), 1, "all pages are of one list");
        assert_eq!(watch.api.asked_since(begun, Asked::List), asked, "{objects} of {bytes} bytes");
    }
}
