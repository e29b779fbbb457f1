//! File systems too small for a run.

use crate::{CARRIED, assert_same, dapo};
use std::fs;
use std::process::Command;

/// Trains on a file system of a size in KiB until it is full, then enlarges it and continues; the folder is copied out.
/// Arguments: the mount point, the size, where to, the command without what says where the run is.
const SCRIPT: &str = r#"
at=$1 size=$2 to=$3
shift 3
mount -t tmpfs -o "size=${size}k" none "$at" || exit 77
"$@" --out "$at/run"
echo "code $?"
mount -o remount,size=1g "$at" || exit 77
if [ -e "$at/run/config.resolved.toml" ]; then "$1" train --resume "$at/run"; else "$@" --out "$at/run"; fi || exit 1
cp -r "$at/run" "$to"
"#;

#[test]
fn a_run_whose_file_system_is_full_continues_when_there_is_room() {
    let (_whole, whole) = CARRIED.whole();
    let command = CARRIED.start(&whole);
    let args: Vec<_> = command.get_args().filter(|arg| *arg != "--out" && *arg != whole).collect();
    let mut refused = 0;
    // From not even the settings to everything but the last checkpoint.
    for size in [4, 24, 40, 60, 2_000, 6_200, 7_000, 9_000, 12_500, 13_000] {
        let temp = tempfile::tempdir().unwrap();
        let (at, to) = (temp.path().join("at"), temp.path().join("to"));
        fs::create_dir(&at).unwrap();
        let mut shell = Command::new("unshare");
        shell.args(["-rm", "sh", "-c", SCRIPT, "sh"]).arg(&at).arg(size.to_string()).arg(&to);
        let end = shell.env("RAYON_NUM_THREADS", "1").arg(dapo().get_program()).args(&args).output();
        let Some(end) = end.ok().filter(|end| ![Some(77), None].contains(&end.status.code())) else {
            println!("SKIPPED: this machine mounts no file system for a test");
            return;
        };
        let (out, said) = (String::from_utf8(end.stdout).unwrap(), String::from_utf8(end.stderr).unwrap());
        if said.contains("unshare") && !out.contains("code ") {
            println!("SKIPPED: {said}");
            return;
        }
        assert!(end.status.success() && out.contains("code 1"), "{size} KiB: {}: {out}{said}", end.status);
        refused += usize::from(said.contains(" for a checkpoint"));
        assert!(said.contains("No space left on device") || said.contains(" for a checkpoint"), "{size} KiB: {said}");
        assert_same(&whole, &to, &format!("{size} KiB"));
    }
    assert!(refused > 0, "no checkpoint was refused for lack of space");
}
