//! Servers: one that scores, and one that fails in every way.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use common::server::{self, Do, Request};
use common::{inputs, message, values};
use dapo_external::{Dialect, ExternalReward, OnError, UrlReward, open};
use dapo_reward::{RewardFn, Score};
use serde_json::{Value, json};
use tempfile::tempdir;

/// A server that scores.
struct Server(server::Server);

impl Server {
    /// `answer` gets the request's number, from 0 on, and its body.
    fn start(answer: impl Fn(usize, &Value) -> Do + Send + Sync + 'static) -> Self {
        Self(server::Server::of(move |number, request| answer(number, &request.body)).unwrap())
    }

    fn requests(&self) -> Vec<Request> {
        self.0.requests()
    }

    fn config(&self) -> UrlReward {
        UrlReward { url: format!("http://{}/score", self.0.address), backoff_s: 0.01, ..UrlReward::default() }
    }

    fn open(&self) -> ExternalReward {
        opened(self.config())
    }
}

fn opened(config: UrlReward) -> ExternalReward {
    open("mine", &config.into(), ".".as_ref(), None).unwrap()
}

/// The completions as numbers.
fn rewards(body: &Value) -> Value {
    let samples = body["samples"].as_array().unwrap();
    let value = |sample: &Value| serde_json::from_str(sample["completion"].as_str().unwrap()).unwrap();
    Value::Array(samples.iter().map(value).collect())
}

fn echo(body: &Value) -> Do {
    Do::Reply(200, json!({"id": body["id"], "rewards": rewards(body)}).to_string())
}

#[test]
fn a_round_is_one_request_in_the_form_of_commands() {
    let server = Server::start(|_, body| echo(body));
    let reward = server.open();
    assert_eq!(values(&reward, &["0.5", "null", "-1"]), [Some(0.5), None, Some(-1.0)]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].head.starts_with("post /score http/1.1\r\n"), "{}", requests[0].head);
    assert!(requests[0].head.contains("content-type: application/json\r\n"));
    assert!(!requests[0].head.contains("authorization"));
    let sample = json!({"prompt": "1+1?", "messages": [], "completion": "0.5", "answer": "2", "columns": {}, "num_tokens": 3,
        "truncated": false, "draw": 0, "sample": 0});
    assert_eq!(requests[0].body["samples"][0], sample);
    assert_eq!((&requests[0].body["id"], &requests[0].body["step"]), (&json!(1), &json!(3)));
}

#[test]
fn the_reply_may_leave_out_the_id() {
    let server = Server::start(|_, body| Do::Reply(200, json!({"rewards": rewards(body)}).to_string()));
    assert_eq!(values(&server.open(), &["1"]), [Some(1.0)]);
}

#[test]
fn requests_run_side_by_side_and_come_back_in_order() {
    let server = Server::start(|number, body| {
        // The first reply comes last.
        thread::sleep(Duration::from_millis(200 - 50 * number.min(3) as u64));
        echo(body)
    });
    let config = UrlReward { concurrency: 4, batch: Some(1), ..server.config() };
    let start = Instant::now();
    let texts = ["0", "1", "2", "3", "4", "5", "6", "7"];
    let expected: Vec<_> = (0..8).map(|number| Some(f64::from(number))).collect();
    assert_eq!(values(&opened(config), &texts), expected);
    assert!(start.elapsed() < Duration::from_millis(750), "{:?}", start.elapsed());
    assert_eq!(server.requests().len(), 8);
}

#[test]
fn what_may_pass_is_tried_again() {
    let server = Server::start(|number, body| match number {
        0 => Do::Reply(503, "busy".to_owned()),
        1 => Do::Close,
        2 => Do::Later(0),
        _ => echo(body),
    });
    let reward = server.open();
    assert_eq!(values(&reward, &["1"]), [Some(1.0)]);
    let counters = reward.take_counters();
    assert_eq!((counters.requests, counters.retries, counters.faults.len()), (1, 3, 0));
    let bodies: Vec<_> = server.requests().into_iter().map(|request| request.body).collect();
    assert!(bodies.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn retries_end() {
    let server = Server::start(|_, _| Do::Reply(500, "{\"error\": \"no GPU\"}".to_owned()));
    let reward = opened(UrlReward { retries: 2, ..server.config() });
    let address = &server.0.address;
    let expected = format!("step 3: http://{address}/score: HTTP 500: \"{{\\\"error\\\": \\\"no GPU\\\"}}\"");
    assert_eq!(message(&reward, &["1"]), expected);
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn what_does_not_pass_is_not_tried_again() {
    for (status, kind) in [(400, "status"), (401, "status"), (404, "status"), (307, "status"), (200, "json")] {
        let server = Server::start(move |_, _| match status {
            307 => Do::Redirect,
            status => Do::Reply(status, "<html>".to_owned()),
        });
        let reward = opened(UrlReward { on_error: OnError::Abstain, ..server.config() });
        assert_eq!(values(&reward, &["1"]), [None]);
        assert_eq!(reward.take_counters().faults.into_keys().collect::<Vec<_>>(), [kind], "{status}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn faults_of_replies_are_those_of_commands() {
    for (reply, kind) in [
        (r#"{"rewards":[NaN]}"#, "json"),
        (r#"{"rewards":[1,2]}"#, "count"),
        (r#"{"rewards":[1e999]}"#, "not-finite"),
        (r#"{"id":9,"rewards":[1]}"#, "id"),
        (r#"{"error":"no model"}"#, "reported"),
    ] {
        let server = Server::start(move |_, _| Do::Reply(200, reply.to_owned()));
        let reward = server.open();
        message(&reward, &["1"]);
        assert_eq!(reward.take_counters().faults.into_keys().collect::<Vec<_>>(), [kind], "{reply}");
    }
}

#[test]
fn a_server_that_stalls_is_timed_out() {
    let server = Server::start(|number, body| if number == 0 { Do::Stall } else { echo(body) });
    let reward = opened(UrlReward { timeout_s: 0.3, ..server.config() });
    assert_eq!(values(&reward, &["1"]), [Some(1.0)]);
    let server = Server::start(|_, _| Do::Stall);
    let config = UrlReward { timeout_s: 0.3, deadline_s: 1.0, retries: 100, ..server.config() };
    let start = Instant::now();
    assert!(message(&opened(config), &["1"]).starts_with("step 3: no reply within 0."));
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert!((2..=5).contains(&server.requests().len()));
}

#[test]
fn the_deadline_is_earlier_than_a_wait_that_the_server_asks_for() {
    let server = Server::start(|_, _| Do::Later(3600));
    let start = Instant::now();
    assert!(message(&server.open(), &["1"]).ends_with("/score: HTTP 429"));
    assert!(start.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = UrlReward { url: format!("http://{free}/score?version=secret"), retries: 0, ..UrlReward::default() };
    let found = message(&opened(config), &["1"]);
    assert!(found.starts_with(&format!("step 3: http://{free}/score: ")), "{found}");
    assert!(!found.contains("secret"));
}

#[test]
fn answers_of_a_server_are_kept() {
    let dir = tempdir().unwrap();
    let server = Server::start(|_, body| echo(body));
    for _ in 0..2 {
        let reward = open("mine", &server.config().into(), dir.path(), Some(dir.path())).unwrap();
        assert_eq!(values(&reward, &["1", "2"]), [Some(1.0), Some(2.0)]);
    }
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn openrlhfs_servers_are_understood() {
    let server = Server::start(|_, body| {
        assert_eq!(body, &json!({"query": ["1+1?2", "1+1?3"], "prompts": ["1+1?", "1+1?"], "labels": ["2", "2"]}));
        let reply = json!({"rewards": [1.0, [-1.0]], "scores": [1, 0], "extra_logs": {"length": [3, 4]}});
        Do::Reply(200, reply.to_string())
    });
    let reward = opened(UrlReward { dialect: Dialect::Openrlhf, ..server.config() });
    let expected = [
        Score::value(1.0).with_log("score", 1.0).with_log("length", 3.0),
        Score::value(-1.0).with_log("score", 0.0).with_log("length", 4.0),
    ];
    assert_eq!(reward.score_batch(&inputs(&["2", "3"], 0, 3)).unwrap(), expected);
}

#[test]
fn the_key_goes_to_the_server_and_nowhere_else() {
    // Cargo sets it for every test: no need to change the environment of a process with threads.
    let variable = "CARGO_PKG_NAME";
    let key = std::env::var(variable).unwrap();
    let echoed = format!("invalid key {key}");
    let server = Server::start(move |_, _| Do::Reply(401, echoed.clone()));
    let config = UrlReward { api_key_env: Some(variable.to_owned()), ..server.config() };
    let reward = opened(config.clone());
    let found = message(&reward, &["1"]);
    assert!(found.ends_with("HTTP 401: \"invalid key ***\""), "{found}");
    assert!(server.requests()[0].head.contains(&format!("authorization: bearer {key}\r\n")));
    let shown = format!("{reward:?} {:?} {}", reward.take_counters(), serde_json::to_string(&config).unwrap());
    assert!(!shown.contains(&key), "{shown}");
}

#[test]
fn settings_are_checked_when_the_reward_is_opened() {
    let fails = |config: UrlReward| open("mine", &config.into(), ".".as_ref(), None).unwrap_err().to_string();
    let url = |url: &str| UrlReward { url: url.to_owned(), ..UrlReward::default() };
    let valid = url("http://localhost:1/");
    assert_eq!(
        fails(UrlReward::default()),
        "UrlReward: url is \"\", expected an address: \"http://localhost:8000/score\""
    );
    let found = fails(url("http://me:secret@host/score?key=secret"));
    assert_eq!(
        found,
        "UrlReward: url is http://***@host/score, expected no user and password: name an environment variable in \
         api_key_env"
    );
    for secret in ["http://host/score?key=secret", "http://host/score?secret", "http://host/score#secret"] {
        let found = fails(url(secret));
        assert!(found.starts_with("UrlReward: url is http://host/score?…, expected nothing after"), "{found}");
        assert!(found.ends_with("name an environment variable with the key in api_key_env"), "{found}");
    }
    assert_eq!(
        fails(UrlReward { api_key_env: Some("NO_SUCH_VARIABLE_7".to_owned()), ..valid.clone() }),
        "api_key_env names the environment variable \"NO_SUCH_VARIABLE_7\", which is not set"
    );
    assert_eq!(
        fails(UrlReward { concurrency: 0, ..valid.clone() }),
        "UrlReward: concurrency is 0, expected at least 1"
    );
    assert_eq!(
        fails(UrlReward { backoff_s: -1.0, ..valid }),
        "UrlReward: backoff_s is -1, expected at least 0 seconds and at most a year"
    );
    if cfg!(not(feature = "tls")) {
        let expected = "https://host/ needs TLS, which this build lacks: build with the feature \"tls\"";
        assert_eq!(fails(url("https://host/?version=secret")), expected);
    }
}
