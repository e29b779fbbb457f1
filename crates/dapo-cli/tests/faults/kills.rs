//! Kills at random times.

use crate::{CARRIED, FULL, KL, LORA, assert_whole_checkpoints, of_environment};
use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

#[test]
fn kills_at_random_times_change_nothing() {
    let kills = of_environment("DAPO_FAULT_KILLS", 8);
    let kinds = [&FULL, &LORA, &KL, &CARRIED].map(|kind| {
        let started = Instant::now();
        (kind, kind.whole(), started.elapsed())
    });
    let mut random = 0x9E37_79B9_7F4A_7C15_u64;
    let mut share = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 40) as f64 / f64::from(1 << 24)
    };
    let (mut killed, mut runs) = (0, 0);
    for (kind, (_whole, whole), lasts) in kinds.iter().cycle() {
        if killed >= kills {
            break;
        }
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("run");
        let what = format!("{}, storm {runs}", kind.name);
        // Up to four kills of a run.
        for _ in 0..4 {
            let mut command = kind.proceed(&dir);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            sleep(Duration::from_secs_f64(share() * lasts.as_secs_f64()));
            child.kill().unwrap();
            let end = child.wait().unwrap();
            assert!(end.success() || end.signal() == Some(9), "{what}: {end}");
            killed += usize::from(!end.success());
            assert_whole_checkpoints(&dir, &what);
        }
        kind.finish(&dir, whole, &what);
        runs += 1;
    }
    println!("{killed} kills in {runs} runs");
}
