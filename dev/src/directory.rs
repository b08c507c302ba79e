//! The folder with the data, keys and logs of a control plane.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::ports;

/// The name of a temporary folder begins with this.
const PREFIX: &str = "dps-control-plane-";
/// Locked by the process that made the folder, as long as it runs.
const OWNER: &str = "owner.lock";
/// A folder with this file is not removed.
const KEEP: &str = "keep";

/// A folder for data, keys and logs. A temporary one is removed on drop, unless it is kept.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    temporary: Option<File>,
}

impl Directory {
    /// Uses `given` and never removes it, or makes a temporary folder.
    pub(crate) fn new(given: Option<&Path>) -> Result<Self, Error> {
        let directory = match given {
            Some(path) => {
                make_folder(path)?;
                // Absolute, because child processes get paths below it and may have another working directory.
                let path = path.canonicalize().map_err(Error::file("resolve", path))?;
                Self { path, temporary: None }
            }
            None => {
                let parent = std::env::temp_dir();
                remove_abandoned(&parent);
                let directory = temporary_in(&parent)?;
                if std::env::var_os("DPS_DEV_KEEP").is_some() {
                    directory.keep();
                }
                directory
            }
        };
        make_folder(&directory.logs())?;
        Ok(directory)
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

    /// Keeps the folder at the end, with its logs.
    pub(crate) fn keep(&self) {
        // When this file cannot be written, the logs could not be written either.
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

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary.is_some() && !std::thread::panicking() && !self.join(KEEP).exists() {
            // The next start removes what could not be removed now.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(Error::file("create", path))
}

/// The folder gets its final name only once its lock is held, so that another process never takes
/// a new folder for an abandoned one.
fn temporary_in(parent: &Path) -> Result<Directory, Error> {
    let unique = format!("{}-{:08x}", std::process::id(), ports::random() as u32);
    let early = parent.join(format!("new-{PREFIX}{unique}"));
    let path = parent.join(format!("{PREFIX}{unique}"));
    make_folder(&early)?;
    let owner = File::create(early.join(OWNER)).map_err(Error::file("create", &early))?;
    owner.lock().map_err(Error::file("lock", &early))?;
    fs::rename(&early, &path).map_err(Error::file("rename", &early))?;
    Ok(Directory { path, temporary: Some(owner) })
}

/// Removes the folders of processes that ended without running destructors, because they were
/// killed or have the control plane in a `static`, as test binaries do.
fn remove_abandoned(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let is_temporary = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if !is_temporary || path.join(KEEP).exists() {
            continue;
        }
        let abandoned = File::open(path.join(OWNER)).is_ok_and(|file| file.try_lock().is_ok());
        if abandoned {
            // It fails for the folder of another user, or when another process removes it, too.
            let _ = fs::remove_dir_all(&path);
        }
    }
}
