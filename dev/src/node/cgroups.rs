use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::Error;
use crate::wait::eventually;

/// A group's name is this and the pid of its owner.
const PREFIX: &str = "dps-node-";
/// How long the kernel may take to remove killed processes from a group.
const EMPTY_TIMEOUT: Duration = Duration::from_secs(10);

/// A control group in every hierarchy of this machine, below which a kubelet makes its own. They are
/// removed on drop: of a node nothing else remains when its namespaces have ended.
#[derive(Debug)]
pub(super) struct Cgroups {
    name: String,
    folders: Vec<PathBuf>,
}

impl Cgroups {
    pub(super) fn create() -> Result<Self, Error> {
        let mounts = Path::new("/proc/self/mounts");
        let hierarchies = hierarchies(&fs::read_to_string(mounts).map_err(Error::file("read", mounts))?);
        remove_abandoned(&hierarchies);
        let name = format!("{PREFIX}{}", std::process::id());
        let mut cgroups = Self { name, folders: Vec::new() };
        for hierarchy in hierarchies {
            let folder = hierarchy.join(&cgroups.name);
            fs::create_dir(&folder).map_err(Error::file("create", &folder))?;
            cgroups.folders.push(folder);
        }
        Ok(cgroups)
    }

    /// The path of the group below the root of each hierarchy.
    pub(super) fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let _ = eventually(EMPTY_TIMEOUT, || {
            self.folders.iter().for_each(|folder| remove(folder));
            self.folders.iter().all(|folder| !folder.exists()).then_some(())
        });
    }
}

/// Where control groups of version 1 or 2 are mounted. Several controllers may share one hierarchy,
/// and one hierarchy may be mounted in several places.
fn hierarchies(mounts: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, folder, kind) = (fields.next()?, fields.next()?, fields.next()?);
            matches!(kind, "cgroup" | "cgroup2").then(|| PathBuf::from(folder))
        })
        .filter_map(|folder| folder.canonicalize().ok())
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Removes the groups of processes that were killed before they could do it.
fn remove_abandoned(hierarchies: &[PathBuf]) {
    let entries = hierarchies.iter().filter_map(|it| fs::read_dir(it).ok()).flatten().flatten();
    for entry in entries {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&entry.path());
        }
    }
}

/// Removes a group and those below it, innermost first: only an empty group can be removed. Its files
/// cannot be removed and need not be.
fn remove(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    // It fails for a group that is not empty yet; the caller tries again.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hierarchies_of_both_versions_are_found() {
        let mounts = "tmpfs /sys tmpfs rw 0 0\ncgroup /proc cgroup rw,memory 0 0\ncgroup2 /dev cgroup2 rw 0 0\n\
                      cgroup /proc cgroup rw,cpu 0 0\n";
        assert_eq!(hierarchies(mounts), [PathBuf::from("/dev"), PathBuf::from("/proc")]);
    }
}
