//! The figures of a run, kept for the next one to be compared with.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::report::{Outcome, say};

/// In the order in which they are printed.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Figures(Vec<(String, f64)>);

impl Figures {
    pub fn add(&mut self, what: &str, value: f64) {
        self.0.push((what.to_owned(), value));
    }

    /// Prints them beside those of the last run with as many devices, and takes their place.
    pub fn print_beside_last_run(&self, devices: usize) -> Outcome<()> {
        let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-smoke-{devices}.json"));
        let last: Self = match fs::read(&file) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(_) => Self::default(),
        };
        say(&format!(
            "\n{:<48} {:>10} {:>10}",
            format!("{devices} devices, medians"),
            "this run",
            "last run"
        ))?;
        for (what, value) in &self.0 {
            let before = last.0.iter().find(|(name, _)| name == what);
            let before = before.map_or_else(|| "-".to_owned(), |(_, value)| shown(*value));
            say(&format!("{what:<48} {:>10} {before:>10}", shown(*value)))?;
        }
        fs::write(&file, serde_json::to_vec_pretty(self)?)?;
        say(&format!("kept in {}", file.display()))
    }
}

fn shown(value: f64) -> String {
    if value >= 100.0 { format!("{value:.0}") } else { format!("{value:.3}") }
}
