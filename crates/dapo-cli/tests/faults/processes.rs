//! Several processes in one folder.

use crate::{CARRIED, assert_same, copy, resume};
use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Starts five processes at once and waits for all.
fn at_once(command: impl Fn() -> Command) -> Vec<Output> {
    let start = |_| command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let children: Vec<_> = (0..5).map(start).collect();
    children.into_iter().map(|child| child.wait_with_output().unwrap()).collect()
}

/// The number of those that succeeded; the others must say why not.
fn winners(ends: &[Output], reasons: &[&str]) -> usize {
    for end in ends.iter().filter(|end| !end.status.success()) {
        let said = String::from_utf8_lossy(&end.stderr);
        assert!(end.status.code() == Some(1) && reasons.iter().any(|reason| said.contains(reason)), "{said}");
    }
    ends.iter().filter(|end| end.status.success()).count()
}

#[test]
fn of_processes_that_start_in_one_folder_one_trains() {
    let (_whole, whole) = CARRIED.whole();
    let temp = tempfile::tempdir().unwrap();
    for (name, is_there) in [("new", false), ("empty", true)] {
        let dir = temp.path().join(name);
        if is_there {
            fs::create_dir(&dir).unwrap();
        }
        let ends = at_once(|| CARRIED.start(&dir));
        assert_eq!(winners(&ends, &["not empty", "another process", "exists"]), 1, "{name}: {ends:?}");
        assert_same(&whole, &dir, name);
    }
}

#[test]
fn of_processes_that_resume_one_folder_one_trains_at_a_time() {
    let (_whole, whole) = CARRIED.whole();
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    copy(&whole, &dir);
    fs::remove_dir_all(dir.join("checkpoints/step-3")).unwrap();
    let ends = at_once(|| resume(Path::new(&dir)));
    // One may begin when another has finished: it finds nothing left to do.
    assert!(winners(&ends, &["is being trained by another process"]) >= 1, "{ends:?}");
    assert_same(&whole, &dir, "resumed");
}
