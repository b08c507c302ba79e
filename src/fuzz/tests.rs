//! The corpora, replayed. `make fuzz` goes on from them.

use std::fs;
use std::path::{Path, PathBuf};

use super::ALL;

/// Largest file of a corpus, in bytes.
const MOST: u64 = 4096;

fn fuzz(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(part)
}

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_target_holds_for_its_corpus() {
    for (name, target) in ALL {
        let folder = fuzz("corpus").join(name);
        let files = names(&folder);
        assert!(files.len() >= 8, "{name} has {} files", files.len());
        for file in files {
            let path = folder.join(&file);
            assert!(fs::metadata(&path).unwrap().len() <= MOST, "{name}/{file} is too large");
            println!("{name}/{file}");
            target(&fs::read(path).unwrap());
        }
    }
}

#[test]
fn every_target_has_a_program_and_a_corpus_and_there_are_no_others() {
    let all = ALL.map(|(name, _)| name.to_owned());
    assert_eq!(names(&fuzz("corpus")), all);
    assert_eq!(names(&fuzz("targets")), all.clone().map(|name| format!("{name}.rs")));
    let manifest = fs::read_to_string(fuzz("Cargo.toml")).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let programs = manifest["bin"].as_array().unwrap().iter();
    let programs: Vec<_> = programs.map(|program| program["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(programs, all);
    for name in all {
        let program = fs::read_to_string(fuzz("targets").join(format!("{name}.rs"))).unwrap();
        assert!(program.contains(&format!("dps_operator::fuzz::{name}(")), "{name} feeds another target");
    }
}
