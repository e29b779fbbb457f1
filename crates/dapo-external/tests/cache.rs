//! Answers are asked for once.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::path::Path;

use common::{ECHO, all_asked, cache_file, inputs, open_command, shell};
use dapo_external::{CommandReward, ExternalReward, OnError, open};
use dapo_reward::RewardFn;
use tempfile::tempdir;

const ROUNDS: [[&str; 4]; 3] = [["1", "0.1", "null", "3"], ["4", "5", "-6e-7", "7"], ["8", "9", "10", "11"]];

/// Scores the rounds of these steps, the first being step 1.
fn train(reward: &ExternalReward, steps: std::ops::RangeInclusive<u64>) -> Vec<Option<f64>> {
    let round = |step: u64| {
        let inputs = inputs(&ROUNDS[step as usize - 1], step, step);
        reward.score_batch(&inputs).unwrap().into_iter().map(|score| score.value)
    };
    steps.flat_map(round).collect()
}

fn lines(dir: &Path) -> Vec<String> {
    fs::read_to_string(cache_file(dir)).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn an_interrupted_run_asks_nothing_twice_and_leaves_the_same_bytes() {
    let (whole, parts) = (tempdir().unwrap(), tempdir().unwrap());
    let reward = open_command(shell(ECHO, &[&whole.path().join("log")]), whole.path());
    let expected = train(&reward, 1..=3);
    reward.checkpoint(3).unwrap();

    let log = parts.path().join("log");
    let config = CommandReward { workers: 3, batch: Some(1), ..shell(ECHO, &[&log]) };
    let reward = open_command(config.clone(), parts.path());
    train(&reward, 1..=1);
    reward.checkpoint(1).unwrap();
    train(&reward, 2..=3);
    drop(reward);
    // Resumed from the checkpoint of step 1.
    let reward = open_command(config, parts.path());
    assert_eq!(train(&reward, 2..=2), expected[4..8]);
    reward.checkpoint(2).unwrap();
    assert_eq!(train(&reward, 3..=3), expected[8..]);
    let counters = reward.take_counters();
    assert_eq!((counters.requests, counters.replayed), (0, 8));
    reward.checkpoint(3).unwrap();
    assert_eq!(all_asked(&log), all_asked(&whole.path().join("log")));
    assert_eq!(all_asked(&log).len(), 12);
    assert_eq!(fs::read(cache_file(parts.path())).unwrap(), fs::read(cache_file(whole.path())).unwrap());
    let names: Vec<_> = fs::read_dir(parts.path().join("reward_cache")).unwrap().collect();
    assert_eq!(names.len(), 1);
}

#[test]
fn a_run_that_stops_in_a_round_keeps_the_answers_it_has() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    // Its first life answers two requests.
    let end = "do n=$((n + 1)); if [ $n = 3 ] && [ ! -e \"$2\" ]; then : >\"$2\"; exit 1; fi";
    let script = ECHO.replace("do\n", &format!("{end}\n"));
    let config = CommandReward { batch: Some(1), ..shell(&script, &[&log, &dir.path().join("mark")]) };
    let reward = open_command(config.clone(), dir.path());
    let input = inputs(&ROUNDS[0], 1, 1);
    let error = reward.score_batch(&input).unwrap_err().to_string();
    assert!(error.starts_with("step 1: the command ended (exit status: 1)"), "{error}");
    assert_eq!(lines(dir.path()).len(), 2);
    drop(reward);
    let reward = open_command(config, dir.path());
    assert_eq!(train(&reward, 1..=1), [Some(1.0), Some(0.1), None, Some(3.0)]);
    assert_eq!(all_asked(&log), ["0.1", "1", "3", "null"]);
}

#[test]
fn lines_have_the_documented_form() {
    let dir = tempdir().unwrap();
    let script =
        r#"read -r l; echo '{"id":1,"rewards":[{"value":0.1,"correct":true,"log":{"b":2,"a":1}}, null]}'; read -r l"#;
    let reward = open_command(shell(script, &[]), dir.path());
    reward.score_batch(&inputs(&["yes", "no"], 7, 3)).unwrap();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&4_u64.to_le_bytes()).update(b"1+1?yes");
    let hash = hasher.finalize();
    let expected = format!(
        r#"{{"draw":7,"sample":0,"blake3":"{hash}","step":3,"value":0.1,"correct":true,"log":{{"a":1.0,"b":2.0}}}}"#
    );
    let found = lines(dir.path());
    assert_eq!(found[0], expected);
    assert!(found[1].starts_with(r#"{"draw":7,"sample":1,"#) && found[1].ends_with(r#","step":3,"value":null}"#));
    let again = open_command(shell("exit 1", &[]), dir.path());
    assert_eq!(
        again.score_batch(&inputs(&["yes", "no"], 7, 3)).unwrap(),
        reward.score_batch(&inputs(&["yes", "no"], 7, 3)).unwrap()
    );
}

#[test]
fn abstentions_because_of_faults_are_kept_and_counted_again() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    let script = format!("if [ ! -e \"$2\" ]; then : >\"$2\"; exit 1; fi; {ECHO}");
    let config = CommandReward {
        batch: Some(1),
        on_error: OnError::Abstain,
        max_error_fraction: 0.25,
        ..shell(&script, &[&log, &dir.path().join("mark")])
    };
    let reward = open_command(config.clone(), dir.path());
    assert_eq!(train(&reward, 1..=1), [None, Some(0.1), None, Some(3.0)]);
    assert!(lines(dir.path())[0].ends_with(r#""value":null,"fault":"exit"}"#));
    drop(reward);
    let reward = open_command(config.clone(), dir.path());
    assert_eq!(train(&reward, 1..=1), [None, Some(0.1), None, Some(3.0)]);
    assert_eq!(reward.take_counters().requests, 0);
    drop(reward);
    // One fault is known; a second one is too many.
    let script = shell("exit 1", &[]);
    let reward = open_command(CommandReward { command: script.command, ..config }, dir.path());
    let mut input = inputs(&ROUNDS[0], 1, 1);
    input[1].completion = "new";
    let error = reward.score_batch(&input).unwrap_err().to_string();
    assert!(error.starts_with("step 1: 2 of 4 samples abstain because of faults"), "{error}");
}

#[test]
fn a_line_that_was_not_written_whole_is_dropped() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    let config = shell(ECHO, &[&log]);
    train(&open_command(config.clone(), dir.path()), 1..=1);
    let whole = fs::read(cache_file(dir.path())).unwrap();
    for (cut, asked) in [(1, 0), (2, 1), (40, 1)] {
        let _ = fs::remove_file(&log);
        fs::write(cache_file(dir.path()), &whole[..whole.len() - cut]).unwrap();
        train(&open_command(config.clone(), dir.path()), 1..=1);
        assert_eq!(fs::read(cache_file(dir.path())).unwrap(), whole);
        assert_eq!(all_asked(&log).len(), asked);
    }
}

#[test]
fn a_damaged_line_is_named() {
    let dir = tempdir().unwrap();
    let config = shell(ECHO, &[&dir.path().join("log")]);
    train(&open_command(config.clone(), dir.path()), 1..=1);
    let mut found = lines(dir.path());
    found[1] = "{}".to_owned();
    fs::write(cache_file(dir.path()), found.join("\n") + "\n").unwrap();
    let error = open("mine", &config.into(), dir.path(), Some(dir.path())).unwrap_err().to_string();
    assert!(error.contains("mine.jsonl\", line 2, is missing field `draw`"), "{error}");
}

#[test]
fn answers_of_later_steps_follow_those_of_a_checkpoint() {
    let dir = tempdir().unwrap();
    let reward = open_command(shell(ECHO, &[&dir.path().join("log")]), dir.path());
    // A later step draws an earlier prompt.
    reward.score_batch(&inputs(&["1", "2"], 5, 1)).unwrap();
    reward.score_batch(&inputs(&["3"], 4, 2)).unwrap();
    reward.score_batch(&inputs(&["4"], 3, 3)).unwrap();
    reward.checkpoint(2).unwrap();
    let draws = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap()["draw"].as_u64().unwrap();
    assert_eq!(lines(dir.path()).iter().map(draws).collect::<Vec<_>>(), [4, 5, 5, 3]);
    // What follows is appended to the new file.
    reward.score_batch(&inputs(&["5"], 2, 3)).unwrap();
    assert_eq!(lines(dir.path()).iter().map(draws).collect::<Vec<_>>(), [4, 5, 5, 3, 2]);
}

#[test]
fn another_prompt_of_the_same_draw_is_another_question() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("log");
    let reward = open_command(shell(ECHO, &[&log]), dir.path());
    let training = inputs(&["1", "1"], 0, 1);
    let mut evaluation = inputs(&["1", "1"], 0, 0);
    for input in &mut evaluation {
        input.prompt = "2+2?";
    }
    // The same question twice in one round.
    let twice = [training[0], training[1], training[0]];
    assert_eq!(reward.score_batch(&twice).unwrap().len(), 3);
    reward.score_batch(&evaluation).unwrap();
    reward.score_batch(&training).unwrap();
    assert_eq!(all_asked(&log).len(), 4);
}

#[test]
fn answers_of_two_processes_go_together() {
    let (whole, first, second) = (tempdir().unwrap(), tempdir().unwrap(), tempdir().unwrap());
    let reward = open_command(shell(ECHO, &[&whole.path().join("log")]), whole.path());
    train(&reward, 1..=3);
    reward.checkpoint(3).unwrap();

    let one = open_command(shell(ECHO, &[&first.path().join("log")]), first.path());
    train(&one, 1..=1);
    one.checkpoint(1).unwrap();
    assert!(one.news().unwrap().is_empty(), "rewritten since");
    // The other one knows what the first knew when it began.
    fs::create_dir(second.path().join("reward_cache")).unwrap();
    fs::copy(cache_file(first.path()), cache_file(second.path())).unwrap();
    let other = open_command(shell(ECHO, &[&second.path().join("log")]), second.path());
    train(&one, 2..=2);
    train(&other, 3..=3);
    let news = other.news().unwrap();
    assert_eq!(String::from_utf8(news.clone()).unwrap().lines().count(), 4);
    assert!(other.news().unwrap().is_empty());
    one.take_over(&news).unwrap();
    one.take_over(&news).unwrap();
    assert_eq!(one.known_answers(), 12);
    one.checkpoint(3).unwrap();
    assert_eq!(fs::read(cache_file(first.path())).unwrap(), fs::read(cache_file(whole.path())).unwrap());
    assert!(one.take_over(b"nonsense\n").unwrap_err().to_string().contains("line 1"));
}
