use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use dps_dev::{ControlPlane, Options};

use crate::stop::StopSignal;

#[derive(Debug, Args)]
pub struct Arguments {
    /// CustomResourceDefinitions to install: a file or a folder; may be repeated
    #[arg(long, value_name = "DIR")]
    crds: Vec<PathBuf>,

    /// Where to put data, keys and logs; kept at the end [default: a temporary folder, removed]
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
}

pub fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { crds, directory } = arguments;
    let begin = Instant::now();
    let mut control_plane = ControlPlane::start(Options { crds, directory, ..Options::default() })?;
    // Only now: until here Ctrl-C may simply end this process, since no child process outlives it.
    let stop = StopSignal::register()?;
    print_usage(&control_plane, begin.elapsed())?;
    while !stop.received() {
        control_plane.check().inspect_err(|_| control_plane.keep_directory())?;
        std::thread::sleep(Duration::from_millis(100));
    }
    control_plane.stop()?;
    Ok(())
}

/// How to use the control plane in another terminal; the two lines can be pasted as they are.
fn print_usage(control_plane: &ControlPlane, took: Duration) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "Ready in {:.1} s at {}. In another terminal:", took.as_secs_f64(), control_plane.url())?;
    writeln!(out)?;
    writeln!(out, "  export KUBECONFIG=\"{}\"", control_plane.admin_kubeconfig().display())?;
    writeln!(out, "  export PATH=\"{}:$PATH\"", control_plane.assets().folder().display())?;
    writeln!(out)?;
    writeln!(out, "Logs, with every request in audit.log: {}", control_plane.logs_dir().display())?;
    writeln!(out, "Ctrl-C ends it.")?;
    out.flush()
}
