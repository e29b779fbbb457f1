//! A judge behind a server that answers, fails, stalls and talks nonsense.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use common::server::{Do, Server};
use common::{cache_file, inputs, message, values};
use dapo_external::{ExternalReward, JudgeMode, JudgeReward, OnError, open};
use dapo_reward::{RewardFn, RewardInput, Score};
use serde_json::{Value, json};
use tempfile::tempdir;

fn said(text: &str) -> Do {
    let choice = json!({"message": {"role": "assistant", "content": text}, "finish_reason": "stop"});
    let usage = json!({"prompt_tokens": 40, "completion_tokens": 3});
    Do::Reply(200, json!({"choices": [choice], "usage": usage}).to_string())
}

/// `answer` gets the request's number, from 0 on, and the last message.
fn judge(answer: impl Fn(usize, &str) -> Do + Send + Sync + 'static) -> Server {
    Server::of(move |number, request| answer(number, &question(&request.body))).unwrap()
}

fn question(body: &Value) -> String {
    body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned()
}

fn config(server: &Server) -> JudgeReward {
    JudgeReward {
        judge_url: format!("http://{}/v1", server.address),
        model: "small".to_owned(),
        template: Some("{completion}".to_owned()),
        backoff_s: 0.01,
        ..JudgeReward::default()
    }
}

fn ranking(server: &Server) -> JudgeReward {
    JudgeReward { mode: JudgeMode::Ranking, template: Some("{completions}".to_owned()), ..config(server) }
}

fn opened(config: JudgeReward) -> ExternalReward {
    open("mine", &config.into(), ".".as_ref(), None).unwrap()
}

/// Ranks texts by what they say: the largest number first.
fn by_size(question: &str) -> Do {
    let lines: Vec<&str> = question.lines().collect();
    let answers = lines.iter().enumerate().filter(|(_, line)| line.starts_with("<answer number"));
    let mut order: Vec<(i64, usize)> =
        answers.enumerate().map(|(place, (line, _))| (-lines[line + 1].parse::<i64>().unwrap(), place + 1)).collect();
    order.sort_unstable();
    said(&format!("{:?}", order.into_iter().map(|(_, number)| number).collect::<Vec<_>>()))
}

#[test]
fn each_completion_is_rated_by_a_request_of_its_own() {
    let server = judge(|_, question| said(question));
    let reward = opened(JudgeReward { system: Some("Be strict.".to_owned()), ..config(&server) });
    let scores = reward.score_batch(&inputs(&["7", "0", "10"], 0, 3)).unwrap();
    let expected = [(0.7, 7.0), (0.0, 0.0), (1.0, 10.0)].map(|(v, score)| Score::value(v).with_log("score", score));
    assert_eq!(scores, expected);
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].path(), "/v1/chat/completions");
    let mut asked: Vec<String> = requests.iter().map(|request| question(&request.body)).collect();
    asked.sort();
    assert_eq!(asked, ["0", "10", "7"]);
    let body = &requests[0].body;
    assert_eq!(
        (&body["model"], &body["temperature"], &body["max_tokens"]),
        (&json!("small"), &json!(0.0), &json!(1024))
    );
    assert_eq!(body["messages"][0], json!({"role": "system", "content": "Be strict."}));
    let counters = reward.take_counters();
    assert_eq!((counters.requests, counters.prompt_tokens, counters.completion_tokens), (3, 120, 9));
}

#[test]
fn the_scale_is_the_users_and_may_say_what_is_correct() {
    let server = judge(|_, question| said(&format!("{{\"score\": {question}}}")));
    let reward = opened(JudgeReward { scale_min: -1.0, scale_max: 1.0, correct_from: Some(0.5), ..config(&server) });
    let scores = reward.score_batch(&inputs(&["0.5", "-1"], 0, 3)).unwrap();
    let expected = [
        Score::value(0.75).with_log("score", 0.5).with_correct(true),
        Score::value(0.0).with_log("score", -1.0).with_correct(false),
    ];
    assert_eq!(scores, expected);
}

#[test]
fn what_names_a_missing_answer_or_column_abstains_unasked() {
    let server = judge(|_, _| said("7"));
    let with = |template: &str| opened(JudgeReward { template: Some(template.to_owned()), ..config(&server) });
    let columns = json!({"rubric": "short"});
    let input = RewardInput::new("1+1?", "2", "").with_columns(&columns);
    assert_eq!(with("{completion} {answer}").score(&input).unwrap(), Score::abstain());
    assert_eq!(with("{completion} {columns.level}").score(&input).unwrap(), Score::abstain());
    assert!(server.requests().is_empty());
    assert_eq!(with("{completion} {columns.rubric}").score(&input).unwrap().value, Some(0.7));
}

#[test]
fn completions_of_a_draw_are_ranked_among_themselves() {
    let server = judge(|_, question| by_size(question));
    let reward = opened(ranking(&server));
    let mut batch = inputs(&["5", "9", "5", "1"], 4, 3);
    batch.extend(inputs(&["100", "7"], 5, 3));
    // No other text to compare with.
    batch.extend(inputs(&["3", "3"], 6, 3));
    let found: Vec<_> = reward.score_batch(&batch).unwrap().into_iter().map(|score| score.value).collect();
    let expected = [0.5, 1.0, 0.5, 0.0, 1.0, 0.0, 0.5, 0.5].map(Some);
    assert_eq!(found, expected);
    assert_eq!(server.requests().len(), 2, "one for each draw with different texts");
}

#[test]
fn a_ranking_is_known_for_the_same_group_alone() {
    let (dir, server) = (tempdir().unwrap(), judge(|_, question| by_size(question)));
    let reward = || open("mine", &ranking(&server).into(), dir.path(), Some(dir.path())).unwrap();
    let scored = |texts: &[&str]| values(&reward(), texts);
    assert_eq!(scored(&["1", "2", "3"]), [Some(0.0), Some(0.5), Some(1.0)]);
    assert_eq!(scored(&["1", "2", "3"]), [Some(0.0), Some(0.5), Some(1.0)]);
    assert_eq!(server.requests().len(), 1);
    // The first two have another place among other texts.
    assert_eq!(scored(&["1", "2", "0"]), [Some(0.5), Some(1.0), Some(0.0)]);
    assert_eq!(server.requests().len(), 2);
    // Of a group whose answers were not all written, all are asked for again, and those count from then on.
    let text = fs::read_to_string(cache_file(dir.path())).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(cache_file(dir.path()), lines[..2].join("\n").replace("0.5", "0.25") + "\n").unwrap();
    for _ in 0..2 {
        assert_eq!(scored(&["1", "2", "3"]), [Some(0.0), Some(0.5), Some(1.0)]);
        assert_eq!(server.requests().len(), 3);
    }
}

#[test]
fn ratings_are_kept_and_not_asked_for_again() {
    let (dir, server) = (tempdir().unwrap(), judge(|_, question| said(question)));
    for _ in 0..2 {
        let reward = open("mine", &config(&server).into(), dir.path(), Some(dir.path())).unwrap();
        assert_eq!(values(&reward, &["1", "2"]), [Some(0.1), Some(0.2)]);
    }
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn nonsense_is_a_fault_and_never_a_zero() {
    for text in ["I like it.", "11", "", "somewhere between 0 and 10", "{\"score\": \"high\"}"] {
        let server = judge(move |_, _| said(text));
        let reward = opened(config(&server));
        let found = message(&reward, &["1"]);
        assert!(
            found.starts_with("step 3: the judge says ") && found.contains("expected a number from 0 to 10"),
            "{found}"
        );
        assert_eq!(reward.take_counters().faults.into_keys().collect::<Vec<_>>(), ["judgement"], "{text}");
        let reward = opened(JudgeReward { on_error: OnError::Abstain, ..config(&server) });
        assert_eq!(values(&reward, &["1", "2"]), [None, None]);
        assert_eq!(reward.take_counters().abstained, 2);
    }
    for text in ["[1, 1]", "[1]", "neither"] {
        let server = judge(move |_, _| said(text));
        let found = message(&opened(ranking(&server)), &["1", "2"]);
        assert!(found.contains("expected the numbers 1 to 2 in a list, the best first"), "{found}");
    }
}

#[test]
fn an_answer_that_is_cut_off_is_none() {
    let choice = json!({"message": {"content": "On a scale to 10"}, "finish_reason": "length"});
    let reply = json!({"choices": [choice]}).to_string();
    let server = judge(move |_, _| Do::Reply(200, reply.clone()));
    let found = message(&opened(JudgeReward { max_tokens: 5, ..config(&server) }), &["1"]);
    assert_eq!(
        found,
        "step 3: the judge says \"On a scale to 10\", expected an answer of at most max_tokens = 5 tokens"
    );
}

#[test]
fn a_judge_that_is_busy_fails_or_stalls_is_asked_again() {
    let server = judge(|number, question| match number {
        0 => Do::Later(1),
        1 => Do::Reply(503, "busy".to_owned()),
        2 => Do::Close,
        3 => Do::Stall,
        _ => said(question),
    });
    let start = Instant::now();
    let reward = opened(JudgeReward { timeout_s: 0.3, retries: 4, ..config(&server) });
    assert_eq!(values(&reward, &["4"]), [Some(0.4)]);
    assert!(start.elapsed() >= Duration::from_secs(1), "Retry-After was passed over");
    let counters = reward.take_counters();
    assert_eq!((counters.requests, counters.retries, counters.faults.len()), (1, 4, 0));
    assert_eq!((counters.prompt_tokens, counters.completion_tokens), (40, 3));
}

#[test]
fn faults_of_the_server_have_their_kind() {
    let broken = |status: u16, text: &'static str| judge(move |_, _| Do::Reply(status, text.to_owned()));
    for (server, kind) in [
        (broken(404, "no such model"), "status"),
        (broken(200, "<html>"), "json"),
        (broken(200, r#"{"choices": []}"#), "json"),
        (broken(200, r#"{"error": {"message": "overloaded"}}"#), "reported"),
        (judge(|_, _| Do::Stall), "timeout"),
        (judge(|_, _| Do::Close), "connection"),
    ] {
        let reward = opened(JudgeReward { timeout_s: 0.2, retries: 0, ..config(&server) });
        message(&reward, &["1"]);
        assert_eq!(reward.take_counters().faults.into_keys().collect::<Vec<_>>(), [kind]);
    }
}

#[test]
fn requests_run_side_by_side_up_to_the_limit() {
    let server = judge(|_, question| {
        thread::sleep(Duration::from_millis(200));
        said(question)
    });
    let timed = |concurrency| {
        let start = Instant::now();
        let reward = opened(JudgeReward { concurrency, ..config(&server) });
        assert_eq!(values(&reward, &["1", "2", "3", "4"]), [0.1, 0.2, 0.3, 0.4].map(Some));
        start.elapsed()
    };
    assert!(timed(4) < Duration::from_millis(600));
    assert!(timed(1) >= Duration::from_millis(800));
}

#[test]
fn the_key_goes_to_the_judge_and_nowhere_else() {
    // Cargo sets it for every test.
    let variable = "CARGO_PKG_NAME";
    let key = std::env::var(variable).unwrap();
    for status in [401, 200] {
        let echoed = key.clone();
        let server = judge(move |_, _| match status {
            200 => said(&format!("your key is {echoed}")),
            status => Do::Reply(status, format!("invalid key {echoed}")),
        });
        let reward = opened(JudgeReward { api_key_env: Some(variable.to_owned()), ..config(&server) });
        let found = message(&reward, &["1"]);
        assert!(found.contains("key is ***") || found.contains("invalid key ***"), "{found}");
        assert!(server.requests()[0].head.contains(&format!("authorization: bearer {key}\r\n")));
        let shown = format!("{reward:?} {:?} {found}", reward.take_counters());
        assert!(!shown.contains(&key), "{shown}");
    }
}

#[test]
fn settings_are_checked_when_the_reward_is_opened() {
    let server = judge(|_, _| said("7"));
    let fails = |change: &dyn Fn(&mut JudgeReward)| {
        let mut config = config(&server);
        change(&mut config);
        open("mine", &config.into(), ".".as_ref(), None).unwrap_err().to_string()
    };
    for (found, expected) in [
        (fails(&|c| c.judge_url = "localhost".to_owned()), "judge_url is \"localhost\", expected an address"),
        (fails(&|c| c.judge_url += "?key=x"), "/v1?…, expected nothing after"),
        (fails(&|c| c.model.clear()), "model is \"\", expected the name of a model"),
        (fails(&|c| c.scale_max = 0.0), "scale_max is 0, expected a finite number above scale_min"),
        (fails(&|c| c.correct_from = Some(11.0)), "correct_from is 11, expected a rating between"),
        (
            fails(&|c| (c.mode, c.correct_from) = (JudgeMode::Ranking, Some(7.0))),
            "correct_from is 7, expected unset with mode",
        ),
        (fails(&|c| c.template = Some("{promt}{completion}".to_owned())), "template is a text with {promt}, expected"),
        (fails(&|c| c.mode = JudgeMode::Ranking), "template is a text with {completion}, expected {completions}"),
        (fails(&|c| c.temperature = f64::NAN), "temperature is NaN, expected between 0 and 2"),
        (fails(&|c| c.max_tokens = 0), "max_tokens is 0, expected at least 1"),
        (fails(&|c| c.concurrency = 0), "concurrency is 0, expected at least 1"),
    ] {
        assert!(found.contains(expected), "{found}");
    }
}
