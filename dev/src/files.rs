//! The folder a control plane lives in, and writing into it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Prefix of a temporary folder that is in use or was left behind.
const PREFIX: &str = "dps-control-plane-";
/// Held locked for as long as the process that made the folder lives.
const OWNER: &str = "owner.lock";
/// Its presence says that somebody still wants to read what is in the folder.
const KEEP: &str = "keep";

/// A folder for data, keys and logs. A temporary one is removed on drop, unless it is kept.
#[derive(Debug)]
pub(crate) struct Home {
    path: PathBuf,
    temporary: Option<File>,
}

impl Home {
    /// Uses `given` and never removes it, or makes a temporary folder.
    pub(crate) fn new(given: Option<&Path>) -> Result<Self, Error> {
        let home = match given {
            Some(path) => {
                make_folder(path)?;
                // Children are started with paths below it; theirs must not depend on a cwd.
                let path = path.canonicalize().map_err(Error::file("resolve", path))?;
                Self { path, temporary: None }
            }
            None => {
                let parent = std::env::temp_dir();
                sweep(&parent);
                let home = temporary_in(&parent)?;
                if std::env::var_os("DPS_DEV_KEEP").is_some() {
                    home.keep();
                }
                home
            }
        };
        make_folder(&home.logs())?;
        Ok(home)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.join("logs")
    }

    /// Leaves the folder for somebody to look into.
    pub(crate) fn keep(&self) {
        // When the marker cannot be written there is nothing worth reading either.
        let _ = File::create(self.join(KEEP));
    }

    /// Writes a file that only its owner may read.
    pub(crate) fn write(&self, name: &str, content: &str) -> Result<PathBuf, Error> {
        let path = self.join(name);
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content.as_bytes()))
            .map_err(Error::file("write", &path))?;
        Ok(path)
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary.is_some() && !std::thread::panicking() && !self.join(KEEP).exists() {
            // What is left is swept by the next start.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::file("create", path))
}

/// The folder gets its final name only once its owner's lock is held, so that a sweep of another
/// process never takes a new one for an abandoned one.
fn temporary_in(parent: &Path) -> Result<Home, Error> {
    let unique = format!("{}-{:08x}", std::process::id(), crate::ports::random() as u32);
    let early = parent.join(format!("new-{PREFIX}{unique}"));
    let path = parent.join(format!("{PREFIX}{unique}"));
    make_folder(&early)?;
    let owner = File::create(early.join(OWNER)).map_err(Error::file("create", &early))?;
    owner.lock().map_err(Error::file("lock", &early))?;
    fs::rename(&early, &path).map_err(Error::file("rename", &early))?;
    Ok(Home { path, temporary: Some(owner) })
}

/// Removes the folders of processes that ended without running destructors: killed ones, and
/// every test binary that keeps its control plane in a `static`.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !ours || path.join(KEEP).exists() {
            continue;
        }
        let abandoned = File::open(path.join(OWNER)).is_ok_and(|file| file.try_lock().is_ok());
        if abandoned {
            // Another user's, or swept by another process at the same time: not our concern.
            let _ = fs::remove_dir_all(&path);
        }
    }
}
