//! How results are printed.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

/// Requests that do not depend on the number of devices begin with these verbs.
const WATCHED: &[&str] = &["list", "watch"];

/// An error ends the run.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// Requests to the API server: how often each was made, by verb and resource.
pub type Requests = BTreeMap<String, usize>;

/// Calls to DPS.
pub struct DpsCalls {
    pub register: u64,
    pub poll: u64,
    pub lookup: u64,
    pub other: u64,
}

impl DpsCalls {
    pub fn sum(&self) -> u64 {
        self.register + self.poll + self.lookup + self.other
    }
}

pub fn say(text: &str) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

pub fn print_calls(calls: &DpsCalls, devices: usize) -> Outcome<()> {
    let per_device = |count: u64| count as f64 / devices as f64;
    say(&format!(
        "  DPS calls per device           {:.3} register, {:.3} poll, {} lookup, {} other",
        per_device(calls.register),
        per_device(calls.poll),
        calls.lookup,
        calls.other
    ))
}

/// Those that are neither lists nor watches, for a line.
pub fn named_beside_watches(requests: &Requests) -> String {
    let others = requests.iter().filter(|(what, _)| !is_watched(what));
    let named: Vec<String> = others.map(|(what, count)| format!("{count} {what}")).collect();
    if named.is_empty() { "no request".to_owned() } else { named.join(", ") }
}

fn is_watched(what: &str) -> bool {
    WATCHED.iter().any(|verb| what.starts_with(verb))
}

/// How many are neither lists nor watches.
pub fn beside_watches(requests: &Requests) -> usize {
    requests.iter().filter(|(what, _)| !is_watched(what)).map(|(_, count)| count).sum()
}

pub fn print_requests(requests: &Requests, devices: usize) -> Outcome<()> {
    let sum = beside_watches(requests);
    for (what, count) in requests {
        say(&format!("    {what:<42} {count:>7}   {:.3} a device", *count as f64 / devices as f64))?;
    }
    say(&format!(
        "    {:<42} {sum:>7}   {:.3} a device",
        "besides list and watch",
        sum as f64 / devices as f64
    ))
}
