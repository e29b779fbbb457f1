//! Commands: shell scripts that score, and shell scripts that fail in every way.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{ECHO, asked, inputs, message, open_command, shell, values};
use dapo_external::{CommandReward, ExternalReward, OnError, open};
use dapo_reward::{RewardFn, RewardInput, RewardSum, RewardTerm, Round, Score};
use tempfile::tempdir;

fn abstaining(config: CommandReward) -> CommandReward {
    CommandReward { on_error: OnError::Abstain, ..config }
}

/// Whether a process runs; one that has ended and that nobody waits for does not.
fn is_running(pid: &str) -> bool {
    let status = Command::new("ps").args(["-o", "stat=", "-p", pid.trim()]).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    !status.trim().is_empty() && !status.trim().starts_with('Z')
}

fn ends_soon(pid: &str) -> bool {
    (0..200).any(|_| {
        sleep(Duration::from_millis(10));
        !is_running(pid)
    })
}

/// What a child writes in time.
fn written(path: &Path) -> String {
    for _ in 0..500 {
        match fs::read_to_string(path) {
            Ok(text) if text.ends_with('\n') => return text,
            _ => sleep(Duration::from_millis(10)),
        }
    }
    panic!("{} was not written", path.display());
}

#[test]
fn a_shell_command_scores_a_round_in_one_request() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    let reward = open_command(shell(ECHO, &[&log]), dir.path());
    assert_eq!(values(&reward, &["0.5", "null", "-1"]), [Some(0.5), None, Some(-1.0)]);
    assert_eq!(values(&reward, &["7"]), [Some(7.0)]);
    assert_eq!(asked(&log), [vec!["0.5", "null", "-1"], vec!["7"]]);
    let counters = reward.take_counters();
    assert_eq!((counters.requests, counters.samples, counters.restarts), (2, 4, 0));
    assert!(counters.latency_s >= counters.max_latency_s && counters.max_latency_s > 0.0);
    assert_eq!(reward.take_counters(), dapo_external::Counters::default());
}

#[test]
fn python_that_does_not_flush_is_heard() {
    if !Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no python3");
        return;
    }
    let dir = tempdir().unwrap();
    let script = "import json, sys\nfor line in sys.stdin:\n    request = json.loads(line)\n    \
                  print(json.dumps({'id': request['id'], 'rewards': [1] * len(request['samples'])}))\n";
    let command = ["python3", "-c", script].map(str::to_owned).to_vec();
    let reward = open_command(CommandReward { command, timeout_s: 20.0, ..CommandReward::default() }, dir.path());
    assert_eq!(values(&reward, &["a", "b"]), [Some(1.0), Some(1.0)]);
}

#[test]
fn a_script_that_is_not_executable_says_what_helps() {
    let dir = tempdir().unwrap();
    fs::write(dir.path().join("reward.py"), "print()").unwrap();
    let config = CommandReward { command: vec!["./reward.py".to_owned()], ..CommandReward::default() };
    let found = message(&open_command(config, dir.path()), &["1"]);
    assert!(found.contains("Permission denied") && found.contains("chmod +x"), "{found}");
    assert!(found.ends_with("name the interpreter before it, as in [\"python3\", \"FILE\"]"), "{found}");
}

#[test]
fn details_of_a_reward_become_a_score() {
    let dir = tempdir().unwrap();
    let script =
        r#"read -r line; echo '{"id":1,"rewards":[{"value":1.0,"correct":true,"log":{"steps":3}}]}'; read -r line"#;
    let reward = open_command(shell(script, &[]), dir.path());
    let scores = reward.score_batch(&inputs(&["a"], 0, 1)).unwrap();
    assert_eq!(scores, [Score::value(1.0).with_correct(true).with_log("steps", 3.0)]);
}

#[test]
fn batches_are_spread_over_workers_and_come_back_in_order() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    let texts: Vec<_> = (0..10).map(|number| number.to_string()).collect();
    let texts: Vec<_> = texts.iter().map(String::as_str).collect();
    let expected: Vec<_> = (0..10).map(|number| Some(f64::from(number))).collect();
    let limited = CommandReward { workers: 3, batch: Some(2), ..shell(ECHO, &[&log]) };
    assert_eq!(values(&open_command(limited, &dir.path().join("a")), &texts), expected);
    assert_eq!(asked(&log).iter().map(Vec::len).collect::<Vec<_>>(), [2; 5]);
    fs::remove_file(&log).unwrap();
    let even = CommandReward { workers: 3, ..shell(ECHO, &[&log]) };
    assert_eq!(values(&open_command(even, &dir.path().join("b")), &texts), expected);
    let mut sizes: Vec<_> = asked(&log).iter().map(Vec::len).collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 4, 4]);
}

/// The script's faults, their kind, and the message under `stop`.
const FAULTS: [(&str, &str, &str); 9] = [
    ("sleep 60", "timeout", "step 3: no reply within 0.5 s; is the output flushed after each line?"),
    ("echo hm >&2; sleep 60", "timeout", "step 3: no reply within 0.5 s, saying \"hm\" in "),
    ("echo oops >&2; exit 3", "exit", "step 3: the command ended (exit status: 3), saying \"oops\" in "),
    ("exec >&-; sleep 60", "exit", "step 3: the command closed its stdout before it replied"),
    ("read -r l; echo hello", "json", "step 3: the reply is \"hello\" (expected value at line 1 column 1), expected "),
    (r#"read -r l; echo '{"id":1,"rewards":[NaN]}'"#, "json", "step 3: the reply is "),
    (r#"read -r l; echo '{"id":1,"rewards":[1,2,3]}'"#, "count", "step 3: the reply has 3 rewards, expected 2"),
    (r#"read -r l; echo '{"id":1,"rewards":[0,1e999]}'"#, "not-finite", "step 3: rewards[1] is \"1e999\""),
    (r#"read -r l; echo '{"id":2,"rewards":[0,1]}'"#, "id", "step 3: the reply's id is 2, expected 1"),
];

#[test]
fn every_fault_stops_with_its_name_and_step() {
    for (script, kind, expected) in FAULTS {
        let dir = tempdir().unwrap();
        let config = CommandReward { timeout_s: 0.5, ..shell(script, &[]) };
        let reward = open_command(config, dir.path());
        let found = message(&reward, &["1", "2"]);
        assert!(found.starts_with(expected), "{script}: {found}");
        let counters = reward.take_counters();
        assert_eq!(counters.faults.into_iter().collect::<Vec<_>>(), [(kind, 1)]);
        assert_eq!(counters.abstained, 0);
    }
    let dir = tempdir().unwrap();
    let reward = open_command(shell("exit 3", &[]), dir.path());
    let sum = RewardSum::of(vec![RewardTerm::new(1.0, reward)]).unwrap();
    let found = sum.score_batch(&inputs(&["1"], 0, 3)).unwrap_err().to_string();
    assert!(found.starts_with("reward \"mine\" failed: step 3: the command ended (exit status: 3)"), "{found}");
}

#[test]
fn every_fault_can_abstain_and_the_worker_starts_again() {
    for (script, kind, _) in FAULTS {
        let dir = tempdir().unwrap();
        let (mark, log) = (dir.path().join("mark"), dir.path().join("log"));
        // Faulty in its first life.
        let script = format!("if [ ! -e \"$2\" ]; then : >\"$2\"; {script}; exit; fi; {ECHO}");
        let config = CommandReward { timeout_s: 0.5, ..abstaining(shell(&script, &[&log, &mark])) };
        let reward = open_command(config, dir.path());
        assert_eq!(values(&reward, &["1", "2"]), [None, None], "{script}");
        let counters = reward.take_counters();
        assert_eq!(counters.faults.into_iter().collect::<Vec<_>>(), [(kind, 1)]);
        assert_eq!((counters.abstained, counters.restarts, counters.events.len()), (2, 0, 1));
        assert!(counters.events[0].starts_with("step 3: "), "{:?}", counters.events);
        assert_eq!(values(&reward, &["3", "4"]), [Some(3.0), Some(4.0)], "{script}");
        assert_eq!(reward.take_counters().restarts, 1);
    }
}

#[test]
fn a_failure_that_the_command_reports_does_not_cost_its_worker() {
    let dir = tempdir().unwrap();
    let script =
        r#"read -r l; echo '{"id":1,"error":"no model"}'; read -r l; echo '{"id":2,"rewards":[1]}'; read -r l"#;
    let reward = open_command(abstaining(shell(script, &[])), dir.path());
    assert_eq!(values(&reward, &["a"]), [None]);
    assert_eq!(values(&reward, &["b"]), [Some(1.0)]);
    let counters = reward.take_counters();
    assert_eq!((counters.faults["reported"], counters.restarts), (1, 0));
    assert_eq!(counters.events, ["step 3: it reports: no model"]);
}

#[test]
fn too_many_faults_stop_the_run() {
    let dir = tempdir().unwrap();
    // Every second life fails.
    let script = format!("if [ ! -e \"$2\" ]; then : >\"$2\"; exit 1; fi; rm \"$2\"; {ECHO}");
    let paths = [dir.path().join("log"), dir.path().join("mark")];
    let config = abstaining(shell(&script, &[&paths[0], &paths[1]]));
    let limited = |max_error_fraction| CommandReward { batch: Some(1), max_error_fraction, ..config.clone() };
    let reward = open_command(limited(0.25), &dir.path().join("a"));
    assert_eq!(values(&reward, &["1", "2", "3", "4"]), [None, Some(2.0), Some(3.0), Some(4.0)]);
    let reward = open_command(limited(0.2), &dir.path().join("b"));
    let found = message(&reward, &["1", "2", "3", "4"]);
    let expected = "step 3: 1 of 4 samples abstain because of faults, expected at most 0.2 of them (max_error_fraction); \
                    the last: the command ended (exit status: 1) before it replied";
    assert_eq!(found, expected);
}

#[test]
fn the_share_of_faults_is_that_of_a_round_whatever_its_parts() {
    let dir = tempdir().unwrap();
    // The first life fails.
    let script = format!("if [ ! -e \"$2\" ]; then : >\"$2\"; exit 1; fi; {ECHO}");
    let opened = |name: &str, max_error_fraction| {
        let paths = [dir.path().join("log"), dir.path().join(name)];
        let config = abstaining(shell(&script, &[&paths[0], &paths[1]]));
        open_command(CommandReward { max_error_fraction, ..config }, &dir.path().join(format!("{name}-run")))
    };
    let round = Round::new(8);
    let reward = opened("a", 0.25);
    let part = |reward: &ExternalReward, texts: &[&str], draw| {
        let scores = reward.score_part(&inputs(texts, draw, 3), &round).map_err(|error| error.to_string())?;
        Ok::<_, String>(scores.into_iter().map(|score| score.value).collect::<Vec<_>>())
    };
    assert_eq!(part(&reward, &["1", "2"], 0).unwrap(), [None, None]);
    assert_eq!(part(&reward, &["3", "4"], 1).unwrap(), [Some(3.0), Some(4.0)]);
    // Two samples of another part have failed before.
    let error = part(&opened("b", 0.4), &["1", "2"], 2).unwrap_err();
    assert!(error.contains("4 of 8 samples abstain because of faults, expected at most 0.4 of them"), "{error}");
}

#[test]
fn what_a_command_says_on_stderr_is_in_the_log() {
    let dir = tempdir().unwrap();
    let script = format!("head -c 5000000 /dev/zero | tr '\\0' x >&2; {ECHO}");
    let reward = open_command(shell(&script, &[&dir.path().join("log")]), dir.path());
    assert_eq!(values(&reward, &["1"]), [Some(1.0)]);
    assert_eq!(fs::metadata(dir.path().join("log-mine.txt")).unwrap().len(), 5_000_000);
}

#[test]
fn a_command_that_does_not_read_is_timed_out() {
    let dir = tempdir().unwrap();
    let long = "x".repeat(4_000_000);
    let config = CommandReward { timeout_s: 0.3, ..shell("sleep 60", &[]) };
    let start = Instant::now();
    assert_eq!(
        message(&open_command(config, dir.path()), &[&long]),
        "step 3: no reply within 0.3 s; is the output flushed after each line?"
    );
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_command_that_talks_without_end_is_stopped() {
    let dir = tempdir().unwrap();
    for script in ["yes", "head -c 20000000 /dev/zero | tr '\\0' x; sleep 60"] {
        let config = CommandReward { timeout_s: 0.5, ..shell(script, &[]) };
        let found = message(&open_command(config, dir.path()), &["1"]);
        assert!(found.contains("the reply is \"y\"") || found.contains("no reply within"), "{found}");
    }
}

#[test]
fn nothing_that_a_command_started_outlives_the_reward() {
    let dir = tempdir().unwrap();
    let pid = dir.path().join("pid");
    let script = format!("sleep 1000 & echo $! >\"$2\"; {ECHO}");
    let reward = open_command(shell(&script, &[&dir.path().join("log"), &pid]), dir.path());
    assert_eq!(values(&reward, &["1"]), [Some(1.0)]);
    let pid = written(&pid);
    assert!(is_running(&pid));
    drop(reward);
    assert!(ends_soon(&pid));
}

#[test]
fn a_timeout_ends_what_a_command_started() {
    let dir = tempdir().unwrap();
    let pid = dir.path().join("pid");
    let config = CommandReward { timeout_s: 0.5, ..shell("sleep 1000 & echo $! >\"$1\"; wait", &[&pid]) };
    let reward = open_command(config, dir.path());
    message(&reward, &["1"]);
    assert!(ends_soon(&written(&pid)));
}

#[test]
fn a_command_has_time_to_end_by_itself() {
    let dir = tempdir().unwrap();
    let done = dir.path().join("done");
    let script = format!("{ECHO} sleep 0.1; echo done >\"$2\"");
    let reward = open_command(shell(&script, &[&dir.path().join("log"), &done]), dir.path());
    values(&reward, &["1"]);
    drop(reward);
    assert_eq!(fs::read_to_string(&done).unwrap(), "done\n");
}

#[test]
fn relative_paths_are_those_of_the_base_folder() {
    use std::os::unix::fs::PermissionsExt;
    let (base, state) = (tempdir().unwrap(), tempdir().unwrap());
    let file = base.path().join("judge.sh");
    fs::write(&file, format!("#!/bin/sh\n{ECHO}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    for command in [vec!["./judge.sh", "log"], vec!["sh", "judge.sh", "log"]] {
        let config = CommandReward { command: command.into_iter().map(str::to_owned).collect(), ..Default::default() };
        let reward = open("mine", &config.into(), base.path(), None).unwrap();
        assert_eq!(values(&reward, &["1"]), [Some(1.0)]);
    }
    assert_eq!(asked(&base.path().join("log")).len(), 2);
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn settings_are_checked_when_the_reward_is_opened() {
    let dir = tempdir().unwrap();
    let fails = |name: &str, config: CommandReward| {
        open(name, &config.into(), dir.path(), Some(dir.path())).unwrap_err().to_string()
    };
    let command = |program: &str| CommandReward { command: vec![program.to_owned()], ..CommandReward::default() };
    let valid = command("sh");
    assert_eq!(
        fails("a", CommandReward::default()),
        "CommandReward: command is [], expected a program and its arguments"
    );
    assert_eq!(
        fails("a", CommandReward { timeout_s: f64::NAN, ..valid.clone() }),
        "CommandReward: timeout_s is NaN, expected more than 0 seconds and at most a year"
    );
    assert_eq!(
        fails("a", CommandReward { workers: 0, ..valid.clone() }),
        "CommandReward: workers is 0, expected at least 1"
    );
    assert_eq!(
        fails("a", CommandReward { batch: Some(0), ..valid.clone() }),
        "CommandReward: batch is 0, expected at least 1"
    );
    assert_eq!(
        fails("a", CommandReward { max_error_fraction: 1.5, ..valid.clone() }),
        "CommandReward: max_error_fraction is 1.5, expected between 0 and 1"
    );
    assert_eq!(fails("../a", valid), "the reward's name is \"../a\", expected letters, digits, \"_\" and \"-\"");
    assert_eq!(
        fails("a", command("no-such-program")),
        "command names \"no-such-program\", which is not there, in no folder of PATH"
    );
    assert!(fails("a", command("./none.sh")).ends_with("none.sh\", which is not there"));
}

#[test]
fn samples_can_be_scored_one_by_one() {
    let dir = tempdir().unwrap();
    let reward = open_command(shell(ECHO, &[&dir.path().join("log")]), dir.path());
    assert_eq!(reward.name(), "mine");
    assert_eq!(reward.score(&RewardInput::new("", "0.5", "")).unwrap(), Score::value(0.5));
    assert_eq!(reward.score_batch(&[]).unwrap(), []);
    assert_eq!(reward.take_counters().requests, 1);
}
