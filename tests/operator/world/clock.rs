//! The time of day as an operator sees it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What is loaded into the operator's process.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/operator/world/clock.c");

/// A clock that can be set, also while operators run by it.
pub struct Clock {
    library: PathBuf,
    ahead: PathBuf,
}

impl Clock {
    /// A clock that is right. Its files are beside this one.
    pub fn new(log: &Path) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = |ending: &str| log.with_extension(format!("{number}.{ending}"));
        let clock = Self { library: file("so"), ahead: file("clock") };
        fs::write(&clock.ahead, 0_i64.to_ne_bytes()).expect("the clock can be written");
        // Linking takes a C compiler anyhow.
        let compiled =
            Command::new("cc").args(["-shared", "-fPIC", "-O1", SOURCE, "-o"]).arg(&clock.library).status();
        assert!(compiled.expect("there is a C compiler").success());
        clock
    }

    /// From now on it is so many seconds ahead of the machine's.
    pub fn set_ahead(&self, seconds: i64) {
        let file = fs::OpenOptions::new().write(true).open(&self.ahead).expect("the clock is there");
        file.write_all_at(&seconds.to_ne_bytes(), 0).expect("the clock can be set");
    }

    /// Has a process run by it.
    pub fn give_to(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("CLOCK_AHEAD", &self.ahead);
    }
}
