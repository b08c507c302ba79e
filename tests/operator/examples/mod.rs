//! Every folder of `examples/` works as it is written: applied to an API server, with the simulator
//! in Azure's place, each device becomes Ready and its Secret has what its comment promises.
//!
//! A promise is a comment `# Secret NAME: key, key.`, which may go on over several lines up to a full
//! stop. Nothing of a manifest is changed but the integration's host name and CA bundle; the
//! simulator knows the id scopes and keys that the example names.

mod applied;
mod example;
mod rendered;

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::world::World;
use crate::world::manifests::merged;

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");

/// The same object with DPS where the simulator is.
fn at_simulator(world: &World, object: &Value) -> Value {
    let spec = json!({"hostname": world.host(), "caBundleRef": {"name": "simulator-ca"}});
    let is_integration = object["kind"] == "DpsIntegration";
    if is_integration { merged(object.clone(), json!({"spec": spec})) } else { object.clone() }
}

/// The same object in the world's namespace.
fn in_namespace(world: &World, object: Value) -> Value {
    merged(object, json!({"metadata": {"namespace": world.namespace}}))
}

/// Names in a folder, sorted as kubectl reads them.
fn entries(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn every_example_is_applied_by_a_test() {
    let folders = entries(Path::new(EXAMPLES));
    let folders: Vec<_> = folders.iter().filter(|name| Path::new(EXAMPLES).join(name).is_dir()).collect();
    assert!(!folders.is_empty());

    // What a tool reads, or renders before it can be applied.
    let elsewhere = [include_str!("../gitops/health.rs"), include_str!("rendered.rs")].concat();
    for folder in folders {
        let read = format!("Example::read({folder:?})");
        let is_read = include_str!("applied.rs").contains(&read)
            || elsewhere.contains(&format!("\"examples/{}", folder));
        assert!(is_read, "no test reads examples/{folder}");
    }
}
