//! What the process asks of the kernel for itself.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// From now on nothing writes the memory, which holds the keys of enrollment groups, to a disk: no core
/// is dumped, whatever ends the process and wherever the node sends cores. The limit is for those who
/// write cores into files, and is inherited by the programs that a kubeconfig names; what pipes them
/// elsewhere may ignore the limit, and is stopped by the flag.
///
/// # Errors
/// When the kernel does not allow it.
pub fn dump_no_core() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    // With it no other process of the same user may read the memory, either.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Raises the number of files and connections that may be open to what the container is allowed. Where
/// the usual limit still is 1,024, peers of the metrics' port and calls to DPS would share those.
///
/// # Errors
/// When the kernel does not allow it; the process works with what it has.
pub fn open_as_many_files_as_allowed() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?)
}

/// Asks for small pages only. The kernel of some systems gives every allocation pages of 2 MiB and fills them
/// with zeros; most of them would never be used or given back.
///
/// # Errors
/// When the kernel does not allow it; the process takes more memory then.
pub fn use_no_huge_pages() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true)?;
    Ok(())
}
