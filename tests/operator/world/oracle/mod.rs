//! Invariants that hold in every world at every moment, judged at its end from what others have seen.

mod managed;
mod planted;
mod process;
mod requests;
mod secrets;
mod statuses;
mod story;
mod telling;
mod watching;

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::Ordering;

use kube::api::ListParams;
use serde_json::Value;
use tokio::runtime::Handle;

use self::story::{Breach, Process, Story};
pub use self::watching::Watching;
use super::keys::{GROUP_KEYS, OWN_KEYS};
use super::objects::{revision, value};
use super::scanner::{Scanner, device_key};
use super::waiting::until;
use super::{Kind, PATIENCE, POLL, World};

/// The keys of so many devices are sought.
const DEVICES: usize = 24;
/// Where the private number of a P-256 key is in PKCS#8.
const PRIVATE_NUMBER: std::ops::Range<usize> = 36..68;

/// Every invariant that did not hold.
pub fn breaches(story: &Story) -> Vec<Breach> {
    let checks: [fn(&Story) -> Vec<Breach>; 13] = [
        requests::only_device_calls,
        requests::registrations_are_bounded,
        requests::rates_are_kept,
        requests::operations_do_not_overlap,
        requests::only_its_writes,
        requests::writes_are_bounded,
        requests::writes_are_news,
        secrets::are_whole,
        secrets::are_ours,
        secrets::are_registered,
        statuses::go_forward,
        statuses::ready_means_a_secret,
        process::is_bounded,
    ];
    let mut found: Vec<Breach> = checks.iter().flat_map(|check| check(story)).collect();
    found.extend(process::shows_nothing_secret(story, &secrets_of(story)));
    found
}

/// The keys of the groups and of individual enrollments, and those that the first devices derive.
fn secrets_of(story: &Story) -> Scanner {
    let mut scanner = Scanner::default();
    let ids: BTreeSet<&String> =
        story.ledger.iter().filter_map(|entry| entry.registration_id.as_ref()).collect();
    OWN_KEYS.into_iter().for_each(|key| scanner.seek_base64(key));
    // Of ECDSA with P-256 the private number stands there by itself; what else is in the file is public.
    story.private_keys.iter().filter_map(|key| key.get(PRIVATE_NUMBER)).for_each(|key| scanner.seek(key));
    for key in GROUP_KEYS {
        scanner.seek_base64(key);
        ids.iter().take(DEVICES).for_each(|id| scanner.seek(&device_key(key, id)));
    }
    scanner
}

impl World {
    /// What has happened until now.
    async fn story(&self) -> Story {
        // What came of them is seen then; the operator goes on meanwhile.
        let requests = self.stages().into_iter().filter(|event| event.stage == "ResponseComplete").collect();
        self.wait_seen().await;
        let (states, gaps, failures) = {
            let seen = self.oracle.seen();
            (seen.states.clone(), seen.gaps > 0, seen.failures)
        };
        Story {
            states,
            gaps,
            failures,
            events: self.list(Kind::Event).await,
            ledger: self.ledger(),
            requests,
            log: self.all_logs(),
            private_keys: self.issued.keys(),
            starts: self.starts.load(Ordering::Relaxed),
            most_a_minute: self.most_a_minute.load(Ordering::Relaxed),
            process: self.operator.as_ref().and_then(|operator| process_of(operator.pid())),
            is_disturbed: self.proxies.is_some() || !self.further_hosts.is_empty(),
        }
    }

    /// The most memory that the operator has taken since its start, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let operator = self.operator.as_ref().expect("the operator runs");
        process_of(operator.pid()).expect("it can be looked at").peak_kib
    }

    /// Every state up to now in which objects of this kind were.
    pub async fn states(&self, kind: Kind) -> Vec<Value> {
        self.wait_seen().await;
        let seen = self.oracle.seen();
        assert_eq!(seen.gaps, 0, "a watch began anew: what was between is not known");
        let of_kind = seen.states.iter().filter(|state| state.kind == kind && !state.deleted);
        of_kind.map(|state| state.object.clone()).collect()
    }

    /// The watches have shown the present state of every object.
    async fn wait_seen(&self) {
        for kind in watching::KINDS {
            // A payload can be nested too deeply for every client of this kind.
            let Ok(latest) = self.api(kind).list(&ListParams::default()).await else { continue };
            let latest: Vec<Value> = latest.items.into_iter().map(value).collect();
            let seen = until(PATIENCE, POLL / 4, async || {
                let seen: BTreeSet<_> =
                    self.oracle.seen().states.iter().map(|state| revision(&state.object)).collect();
                if latest.iter().all(|object| seen.contains(&revision(object))) { Ok(()) } else { Err(()) }
            });
            seen.await.unwrap_or_else(|()| panic!("the watch of {kind:?} lags behind"));
        }
    }
}

impl Drop for World {
    /// Judges what has happened, unless the test has failed already.
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        // On a thread of its own: what wakes other futures of this one would be taken for its own here.
        let (runtime, world) = (Handle::current(), &*self);
        let story = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| scope.spawn(|| runtime.block_on(world.story())).join())
        });
        let story = story.expect("what has happened can be found out");
        let found = breaches(&story);
        assert!(found.is_empty(), "invariants did not hold:\n{}", telling::tell(&story, &found));
    }
}

fn process_of(pid: u32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let peak_kib = peak.split_whitespace().next()?.parse().ok()?;
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(Process { peak_kib, descriptors })
}
