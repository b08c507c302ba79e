//! What happens to which request.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dps_dev::Signal;
use serde_json::Value;
use tokio::sync::watch;

use super::call::Call;

/// When a signal is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The request is never forwarded.
    Before,
    /// It was carried out; its answer never arrives.
    Forwarded,
    /// Its answer has arrived.
    Answered,
}

/// What is done to a request.
#[derive(Clone, Debug)]
pub enum Action {
    /// It is forwarded after a while.
    Delay(Duration),
    /// It is carried out, and answered after a while.
    Late(Duration),
    /// The connection is closed.
    Refuse,
    /// It is answered so, and not forwarded.
    Answer { status: u16, headers: Vec<(&'static str, String)>, body: String },
    /// It is carried out, and the connection closed.
    Lose,
    /// It is carried out, and answered so.
    Replace { status: u16, body: String },
    /// Its answer ends after so many bytes, with the connection.
    Cut { after: usize },
    /// Its answer stops after so many bytes, and never ends.
    Stall { after: usize },
    /// Its answer ends in good order after a while, as that to a watch may.
    End { after: Duration },
    /// The operator is killed.
    Kill(Moment),
    /// The operator is stopped, and goes on after a while.
    Freeze(Moment, Duration),
    /// The operator is asked to end.
    Signal(Moment, Signal),
}

/// What becomes of watches that are open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Streams {
    /// What they show is held back.
    held: bool,
    /// How often all of them have been broken off.
    cuts: usize,
}

/// All watches that go through a proxy.
#[derive(Clone, Debug)]
pub struct Watches(Arc<watch::Sender<Streams>>);

impl Watches {
    pub fn new() -> Self {
        Self(Arc::new(watch::channel(Streams::default()).0))
    }

    /// Holds back what they show, until it is released.
    pub fn hold(&self) {
        self.0.send_modify(|streams| streams.held = true);
    }

    pub fn release(&self) {
        self.0.send_modify(|streams| streams.held = false);
    }

    /// Breaks off those that are open.
    pub fn cut(&self) {
        self.0.send_modify(|streams| streams.cuts += 1);
    }

    pub fn follow(&self) -> Stream {
        let streams = self.0.subscribe();
        let cuts = streams.borrow().cuts;
        Stream { streams, cuts }
    }
}

/// One watch.
pub struct Stream {
    streams: watch::Receiver<Streams>,
    cuts: usize,
}

impl Stream {
    // The sender outlives the proxy's connections.

    pub async fn released(&mut self) {
        let _ = self.streams.wait_for(|streams| !streams.held).await;
    }

    pub async fn cut(&mut self) {
        let cuts = self.cuts;
        let _ = self.streams.wait_for(|streams| streams.cuts > cuts).await;
    }
}

/// Which requests, and what happens to them.
#[derive(Clone, Debug)]
pub struct Rule {
    /// As `Call` displays it; none fits every call.
    call: Option<String>,
    device: Option<String>,
    skip: usize,
    times: usize,
    action: Action,
}

impl Rule {
    /// For all requests of this kind.
    pub fn all(call: &str, action: Action) -> Self {
        Self { call: Some(call.to_owned()), ..Self::any(action) }
    }

    /// For all requests.
    pub fn any(action: Action) -> Self {
        Self { call: None, device: None, skip: 0, times: usize::MAX, action }
    }

    /// For the next one.
    pub fn next(call: &str, action: Action) -> Self {
        Self::all(call, action).times(1)
    }

    pub fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Not for the first of them.
    pub fn skip(self, skip: usize) -> Self {
        Self { skip, ..self }
    }

    /// Only for this device, and for what is named after it.
    pub fn of(self, device: &str) -> Self {
        Self { device: Some(device.to_owned()), ..self }
    }

    fn fits(&self, call: &Call) -> bool {
        self.call.as_ref().is_none_or(|fits| *fits == call.to_string())
            && self.device.as_ref().is_none_or(|device| call.is_of(device))
    }
}

#[derive(Debug)]
struct Live {
    rule: Rule,
    seen: usize,
    fired: watch::Sender<usize>,
}

impl Live {
    fn take(&mut self, call: &Call) -> Option<Action> {
        if !self.rule.fits(call) || *self.fired.borrow() == self.rule.times {
            return None;
        }
        self.seen += 1;
        if self.seen <= self.rule.skip {
            return None;
        }
        self.fired.send_modify(|hits| *hits += 1);
        Some(self.rule.action.clone())
    }
}

/// The rules of a proxy.
#[derive(Clone, Debug, Default)]
pub struct Rules(Arc<Mutex<Vec<Live>>>);

/// A rule that is in force until this is dropped.
#[derive(Debug)]
pub struct Armed {
    fired: watch::Receiver<usize>,
    rules: Rules,
}

impl Armed {
    /// Waits until it has hit so many.
    pub async fn hit(&mut self, times: usize) {
        // The sender is in the list until this is dropped.
        let _ = self.fired.wait_for(|hits| *hits >= times).await;
    }

    /// Ends it; returns how many it has hit.
    pub fn disarm(self) -> usize {
        self.remove();
        *self.fired.borrow()
    }

    fn remove(&self) {
        self.rules.lock().retain(|live| !live.fired.subscribe().same_channel(&self.fired));
    }
}

impl Drop for Armed {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Rules {
    pub fn arm(&self, rule: Rule) -> Armed {
        let (sender, fired) = watch::channel(0);
        self.lock().push(Live { rule, seen: 0, fired: sender });
        Armed { fired, rules: self.clone() }
    }

    /// What happens to this request: the rule that was armed first decides.
    pub fn action(&self, call: &Call) -> Option<Action> {
        self.lock().iter_mut().find_map(|live| live.take(call))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Live>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An error of the API server.
pub fn status(code: u16, reason: &str, message: &str) -> Action {
    Action::Answer { status: code, headers: Vec::new(), body: status_body(code, reason, message) }
}

pub fn status_body(code: u16, reason: &str, message: &str) -> String {
    let body: Value = serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    body.to_string()
}
