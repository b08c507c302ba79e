use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Whether this process was told to end: by Ctrl-C, a closed terminal or SIGTERM.
#[derive(Debug)]
pub struct StopSignal(Arc<AtomicBool>);

impl StopSignal {
    /// From now on these signals do not end the process any more.
    pub fn register() -> io::Result<Self> {
        let received = Arc::new(AtomicBool::new(false));
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&received))?;
        }
        Ok(Self(received))
    }

    pub fn received(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
