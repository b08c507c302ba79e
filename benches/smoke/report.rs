//! What is printed of a measurement.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::time::Duration;

/// Requests that do not depend on the number of devices begin with these verbs.
const WATCHED: &[&str] = &["list", "watch"];

/// What can fail here ends the run.
pub type Outcome<T> = Result<T, Box<dyn Error>>;

pub fn say(text: &str) -> Outcome<()> {
    Ok(writeln!(std::io::stdout(), "{text}")?)
}

pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Counts that belong to each of `n` devices.
pub fn per(count: u64, n: usize) -> f64 {
    count as f64 / n as f64
}

pub fn print_requests(requests: &BTreeMap<String, usize>, n: usize) -> Outcome<()> {
    let mut sum = 0;
    for (what, count) in requests {
        let watched = WATCHED.iter().any(|verb| what.starts_with(verb));
        sum += if watched { 0 } else { *count };
        say(&format!("    {what:<42} {count:>7}   {:.3} a device", *count as f64 / n as f64))?;
    }
    say(&format!("    {:<42} {sum:>7}   {:.3} a device", "besides list and watch", sum as f64 / n as f64))
}
