//! A disk that is full where rank 0 keeps the run: a small file system of its own.

use crate::job::{TINY, alone, assert_same, dapo, end, is_left, mpirun_of, resuming, run, training, wait_for_steps};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::{TempDir, tempdir};

/// A mounted tmpfs.
struct Disk(TempDir);

impl Disk {
    /// `None`, said aloud, where nothing may be mounted.
    fn mount(size: &str) -> Option<Self> {
        let dir = tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(dir.path());
        match command.output() {
            Ok(output) if output.status.success() => Some(Self(dir)),
            refused => {
                println!("SKIPPED: no file system can be mounted here: {refused:?}");
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves no byte free.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("filler");
        let mut file = File::create(&path).unwrap();
        for size in [1 << 16, 1 << 10, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

#[test]
fn a_full_disk_of_rank_0_ends_the_job() {
    let _one = alone();
    let Some(disk) = Disk::mount("64m") else { return };
    let dir = tempdir().unwrap();
    let (reference, out) = (dir.path().join("reference"), disk.path().join("run"));
    let settings = [&TINY[..], &["train.steps=200", "eval.every=none"]].concat();
    let mut job = mpirun_of(2, &training(&settings, &out)).spawn().unwrap();
    wait_for_steps(&out, 3, &mut job);
    let filler = disk.fill();
    let ended = end(job).failure(1, &["error: ", " of 200 failed", "No space left on device", "could not be saved"]);
    assert!(!ended.stderr.contains("rank 1:") && !ended.stderr.contains("silent"), "{}", ended.stderr);
    assert!(!is_left(&out));

    // With room, the run continues from its last checkpoint as if nothing had happened.
    fs::remove_file(filler).unwrap();
    let made = fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
    assert!((3..200).contains(&made), "{made}");
    let steps = format!("train.steps={}", made + 3);
    run(mpirun_of(4, &resuming(&out, &[&steps]))).success();
    let mut command = dapo();
    command.args(training(&[&settings[..], &[&steps]].concat(), &reference));
    run(command).success();
    assert_same(&out, &reference, "after a full disk");
}
