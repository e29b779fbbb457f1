//! Files made to hang, crash or deceive: each ends in an error that names it.
#![allow(clippy::unwrap_used)]

mod files;
mod templates;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tiny-qwen3")
}

/// A copy of the tiny model.
fn copy() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(tiny()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, dir.path().join(path.file_name().unwrap())).unwrap();
    }
    dir
}

fn edit(dir: &Path, name: &str, change: impl FnOnce(&mut serde_json::Value)) {
    let file = dir.join(name);
    let mut json = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    change(&mut json);
    fs::write(&file, json.to_string()).unwrap();
}
