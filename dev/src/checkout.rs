use std::path::{Path, PathBuf};

/// The checkout that this program was built from.
pub fn checkout() -> PathBuf {
    let dev = Path::new(env!("CARGO_MANIFEST_DIR"));
    dev.parent().unwrap_or(dev).to_owned()
}
