//! Environments by a command, a server and a Python class: their answers, their faults, and what is kept.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use dapo_external::{EnvConfig, ExternalEnvironment, OnError};
use dapo_reward::{EnvProblem, EnvStart, EnvStep, EnvTurn, Environment, Said};
use serde_json::{Value, json};
use tempfile::tempdir;

/// Says the text back until it is `stop`, and appends every request to the file `$1`; `crash`, `hang` and `garbage` are
/// faults.
const ECHO: &str = r#"
while IFS= read -r line; do
  printf '%s\n' "$line" >>"$1"
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  text=$(printf '%s' "$line" | sed 's/.*"text":"\([^"]*\)".*/\1/')
  case $line in
    *'"method":"reset"'*) printf '{"id":%s,"messages":[{"role":"user","content":"go"}],"state":7}\n' "$id" ;;
    *'"text":"stop"'*) printf '{"id":%s,"done":true,"reward":0.5,"correct":true,"log":{"n":2}}\n' "$id" ;;
    *'"text":"crash"'*) echo 'no more' >&2; exit 3 ;;
    *'"text":"hang"'*) sleep 60 ;;
    *'"text":"garbage"'*) echo '{"id":' ;;
    *) printf '{"id":%s,"messages":[{"role":"user","content":"%s"}],"state":8}\n' "$id" "$text" ;;
  esac
done
"#;

fn echo(log: &Path) -> EnvConfig {
    let command = ["sh", "-c", ECHO, "sh", log.to_str().unwrap()].map(str::to_owned).to_vec();
    EnvConfig { command: Some(command), timeout_s: 20.0, ..EnvConfig::default() }
}

fn problem(draw: u64) -> EnvProblem<'static> {
    let (messages, columns) = (&[] as &[Value], &Value::Null);
    EnvProblem { prompt: "1+1?", messages, answer: "2", alternatives: &[], columns, draw, seed: 41, step: 3 }
}

fn turn<'a>(text: &'a str, turn: usize, history: &'a [Said], state: &'a Value) -> EnvTurn<'a> {
    let problem = problem(1);
    EnvTurn { problem, sample: 2, seed: 5, turn, text, is_truncated: false, is_last: false, history, state }
}

fn requests(log: &Path) -> Vec<Value> {
    let text = fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn answers_are_asked_for_once_and_replayed() {
    let dir = tempdir().unwrap();
    let log = dir.path().join("asked");
    let play = |environment: &ExternalEnvironment| {
        let start = environment.reset(&problem(1)).unwrap();
        assert_eq!(start, EnvStart { messages: vec![Said::new("user", "go")], state: json!(7), ..EnvStart::default() });
        let first = environment.step(&turn("a", 1, &[], &start.state)).unwrap();
        assert_eq!(first, EnvStep::says("user", "a").with_state(json!(8)));
        let history = [Said::new("assistant", "a"), Said::new("user", "a")];
        let last = environment.step(&turn("stop", 2, &history, &first.state)).unwrap();
        assert_eq!((last.is_done, last.reward, last.correct, last.log["n"]), (true, Some(0.5), Some(true), 2.0));
        (start, first, last)
    };
    let environment = ExternalEnvironment::open(&echo(&log), dir.path(), Some(dir.path())).unwrap();
    let played = play(&environment);
    assert_eq!(play(&environment), played);
    let counters = environment.take_counters();
    assert_eq!((counters.requests, counters.replayed), (3, 3));
    environment.checkpoint(3).unwrap();
    drop(environment);
    let kept = dir.path().join("reward_cache/env.jsonl");
    let text = fs::read_to_string(&kept).unwrap();
    // A torn line is dropped.
    fs::write(&kept, text.clone() + "{\"draw\":1,\"sam").unwrap();
    let again = ExternalEnvironment::open(&echo(&log), dir.path(), Some(dir.path())).unwrap();
    assert_eq!(play(&again), played);
    assert_eq!(fs::read_to_string(&kept).unwrap(), text);
    let asked = requests(&log);
    assert_eq!(asked.len(), 3);
    assert_eq!((&asked[0]["method"], &asked[0]["seed"], &asked[0].get("sample")), (&json!("reset"), &json!(41), &None));
    assert_eq!((&asked[2]["state"], &asked[2]["history"][1]["content"]), (&json!(8), &json!("a")));
    // Another seed, such as that of an evaluation, or another history is another turn.
    let other = EnvTurn { seed: 6, ..turn("a", 1, &[], &played.0.state) };
    again.step(&other).unwrap();
    let history = [Said::new("assistant", "b"), Said::new("user", "b")];
    again.step(&turn("stop", 2, &history, &played.1.state)).unwrap();
    assert_eq!(requests(&log).len(), 5);
}

#[test]
fn a_fault_stops_or_ends_the_episode_and_the_next_turn_is_answered() {
    let dir = tempdir().unwrap();
    for (text, kind, message) in [
        ("crash", "exit", "the command ended (exit status: 3), saying \"no more\""),
        ("hang", "timeout", "no reply within 0.5 s"),
        ("garbage", "json", "the reply is \"{\\\"id\\\":\""),
    ] {
        let config =
            EnvConfig { timeout_s: if text == "hang" { 0.5 } else { 20.0 }, ..echo(&dir.path().join("asked")) };
        let run = dir.path().join(text);
        fs::create_dir(&run).unwrap();
        let stopping = ExternalEnvironment::open(&config, dir.path(), Some(&run)).unwrap();
        let error = stopping.step(&turn(text, 1, &[], &Value::Null)).unwrap_err().to_string();
        assert!(error.starts_with(&format!("step 3: {message}")), "{error}");
        let config = EnvConfig { on_error: OnError::Abstain, ..config };
        let run = dir.path().join(format!("{text}-abstains"));
        fs::create_dir(&run).unwrap();
        let abstaining = ExternalEnvironment::open(&config, dir.path(), Some(&run)).unwrap();
        let failed = abstaining.step(&turn(text, 1, &[], &Value::Null)).unwrap();
        assert_eq!(failed.fault.as_deref(), Some(kind));
        assert_eq!(abstaining.step(&turn("a", 1, &[], &Value::Null)).unwrap().messages, [Said::new("user", "a")]);
        // A fault is an answer, too: it is not asked for again.
        assert_eq!(abstaining.step(&turn(text, 1, &[], &Value::Null)).unwrap(), failed);
        let counters = abstaining.take_counters();
        assert_eq!((counters.requests, counters.restarts, counters.abstained), (2, 1, 1));
        assert_eq!(counters.faults[kind], 1);
    }
}

#[test]
fn a_server_answers_with_its_key() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/turn", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut keys = Vec::new();
        for (status, stream) in ["503 Busy", "200 OK"].into_iter().zip(listener.incoming()) {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut length, mut line) = (0, String::new());
            while reader.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.split_once(':').unwrap_or_default();
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.trim().parse().unwrap(),
                    "authorization" => keys.push(value.trim().to_owned()),
                    _ => {}
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["text"], "a");
            let reply = r#"{"messages":[{"role":"tool","content":"b"}]}"#;
            let length = reply.len();
            write!(stream, "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{reply}")
                .unwrap();
        }
        keys
    });
    // PATH is set anywhere.
    let config = EnvConfig {
        url: Some(url),
        api_key_env: Some("PATH".into()),
        backoff_s: 0.01,
        retries: 2,
        deadline_s: 20.0,
        workers: 3,
        ..EnvConfig::default()
    };
    let environment = ExternalEnvironment::open(&config, Path::new("."), None).unwrap();
    assert_eq!(environment.lanes(), 3);
    let step = environment.step(&turn("a", 1, &[], &Value::Null)).unwrap();
    assert_eq!(step, EnvStep::says("tool", "b"));
    assert_eq!(environment.take_counters().retries, 1);
    let key = format!("Bearer {}", std::env::var("PATH").unwrap().trim());
    assert_eq!(server.join().unwrap(), [key.clone(), key]);
    let unset = EnvConfig { api_key_env: Some("NO_SUCH_KEY".into()), ..config };
    let error = ExternalEnvironment::open(&unset, Path::new("."), None).unwrap_err().to_string();
    assert_eq!(error, "api_key_env names the environment variable \"NO_SUCH_KEY\", which is not set");
}

#[test]
fn settings_that_say_not_or_twice_where_it_is_are_refused() {
    let error = |config: EnvConfig| config.validate().unwrap_err().to_string();
    let none = EnvConfig::default();
    assert!(error(none.clone()).contains("command is unset, expected one of command, url and python"));
    let command = EnvConfig { command: Some(vec!["a".into()]), ..none.clone() };
    command.validate().unwrap();
    let both = EnvConfig { url: Some("http://a/".into()), ..command.clone() };
    assert!(error(both.clone()).contains("command is set beside url"), "{}", error(both));
    for (config, field) in [
        (EnvConfig { max_turns: 0, ..command.clone() }, "max_turns is 0"),
        (EnvConfig { max_turn_tokens: Some(0), ..command.clone() }, "max_turn_tokens is 0"),
        (EnvConfig { workers: 0, ..command.clone() }, "workers is 0"),
        (EnvConfig { weight: f64::NAN, ..command.clone() }, "weight is NaN"),
        (EnvConfig { timeout_s: 0.0, ..command.clone() }, "timeout_s is 0"),
        (EnvConfig { retries: 1, ..command.clone() }, "retries is set, expected unset without url"),
        (EnvConfig { api_key_env: Some("A".into()), ..command }, "api_key_env is set, expected unset without url"),
        (EnvConfig { url: Some("a".into()), ..none.clone() }, "url is "),
        (EnvConfig { python: Some("a.py".into()), ..none }, "python is \"a.py\""),
    ] {
        assert!(error(config.clone()).contains(field), "{}", error(config));
    }
}

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: no python3");
    }
    found
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/environments")
}

/// Plays an episode whose model says these texts.
fn play(environment: &ExternalEnvironment, texts: &[&str], last: usize) -> (EnvStart, Vec<EnvStep>) {
    let start = environment.reset(&problem(1)).unwrap();
    let (mut history, mut state, mut steps) = (Vec::new(), start.state.clone(), Vec::new());
    for (number, text) in (1..).zip(texts) {
        let turn = EnvTurn { is_last: number == last, ..turn(text, number, &history, &state) };
        let step = environment.step(&turn).unwrap();
        history.push(Said::new("assistant", *text));
        history.extend(step.messages.clone());
        state = step.state.clone();
        steps.push(step);
    }
    (start, steps)
}

#[test]
fn the_calculator_computes_and_judges() {
    if !has_python() {
        return;
    }
    let config = EnvConfig { python: Some("calculator.py:Calculator".into()), ..EnvConfig::default() };
    let texts = ["<calc>(1 + 2) * -3</calc>", "<calc>1/0</calc>", "<calc>__import__('os')</calc>", "So.\nAnswer: 2 "];
    let environment = ExternalEnvironment::open(&config, &examples(), None).unwrap();
    let (start, steps) = play(&environment, &texts, 9);
    assert!(start.messages[0].content.starts_with("Compute with"));
    let said: Vec<&str> = steps[..3].iter().map(|step| step.messages[0].content.as_str()).collect();
    assert_eq!(said, ["-9", "error: division by zero", "error: only numbers, + - * / and parentheses"]);
    assert_eq!(steps[3], EnvStep::done(1.0).with_correct(true));
    // A worker that never saw the episode makes it again from its turns.
    let history = [Said::new("assistant", texts[0]), Said::new("user", "-9")];
    let fresh = ExternalEnvironment::open(&config, &examples(), None).unwrap();
    let wrong = fresh.step(&turn("Answer: 3", 2, &history, &Value::Null)).unwrap();
    assert_eq!(wrong, EnvStep::done(0.0).with_correct(false));
}

#[test]
fn a_number_is_guessed() {
    if !has_python() {
        return;
    }
    let command = Some(["python3", "guess.py"].map(str::to_owned).to_vec());
    let environment =
        ExternalEnvironment::open(&EnvConfig { command, ..EnvConfig::default() }, &examples(), None).unwrap();
    // The seed is 41.
    let (start, steps) = play(&environment, &["50", "I guess 20", "hm", "42"], 9);
    assert_eq!(start.state, json!(42));
    let said: Vec<&str> = steps[..3].iter().map(|step| step.messages[0].content.as_str()).collect();
    assert_eq!(said, ["Lower.", "Higher.", "A number, please."]);
    assert_eq!((steps[3].reward, steps[3].correct, steps[3].log["guesses"]), (Some(1.0), Some(true), 4.0));
    assert_eq!(play(&environment, &["1", "2"], 2).1[1], EnvStep::done(0.0).with_correct(false));
}

#[test]
fn a_class_that_fails_says_how() {
    if !has_python() {
        return;
    }
    let dir = tempdir().unwrap();
    let source = "
class Odd:
    def reset(self, problem):
        self.turns = []

    def step(self, text, turn):
        self.turns.append((turn['turn'], turn['last']))
        return {'a': 3, 'b': {1, 2}, 'c': 'said'}.get(text) or {'done': True, 'reward': 1.0, 'log': {'turns': len(self.turns)}}

def function(completions):
    return [1.0 for _ in completions]
";
    fs::write(dir.path().join("odd.py"), source).unwrap();
    let open = |name: &str| {
        let config = EnvConfig { python: Some(format!("odd.py:{name}")), ..EnvConfig::default() };
        ExternalEnvironment::open(&config, dir.path(), None).unwrap()
    };
    let odd = open("Odd");
    let error = |text| odd.step(&turn(text, 1, &[], &Value::Null)).unwrap_err().to_string();
    assert_eq!(error("a"), "step 3: it reports: TypeError: Odd.step returns 3, expected a text or a dict");
    assert!(error("b").contains("it reports: TypeError: Odd.step returns {"), "{}", error("b"));
    assert_eq!(play(&odd, &["c", "c", "d"], 3).1[2].log["turns"], 3.0);
    let error = open("function").step(&turn("a", 1, &[], &Value::Null)).unwrap_err().to_string();
    assert_eq!(error, "step 3: it reports: TypeError: function is no class with reset and step");
}

#[test]
fn the_page_shows_the_examples() {
    let page = fs::read_to_string(examples().join("../../docs/environments.md")).unwrap();
    for file in ["calculator.py", "guess.py"] {
        let source = fs::read_to_string(examples().join(file)).unwrap();
        assert!(page.contains(&format!("```python\n{source}```")), "{file}");
    }
    for table in page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        let table: toml::Table = table.parse().unwrap();
        let config: EnvConfig = table["env"].clone().try_into().unwrap();
        config.validate().unwrap();
    }
}
