//! The Secret that a device's credentials are written to.

mod conflicts;
mod contested;
mod formats;
mod leaks;
mod restored;
