//! Rewards of the settings that are computed elsewhere: a run trains with them, asks nothing twice and is resumed to the
//! byte.
#![allow(clippy::unwrap_used)]
#![cfg(unix)]

use dapo_run::{Layer, Resolved, Run, RunFolder, resolve};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

const BASE: [&str; 10] = [
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=24",
    "sampler.train_batch=2",
    "sampler.gen_batch=4",
    "sampler.dynamic=false",
    "optimizer.warmup_steps=0",
    "train.steps=2",
    "output.checkpoint_every=1",
];

/// Half a point for each sample; requests are appended to `$1`.
const HALVES: &str = r#"
while IFS= read -r line; do
  printf '%s\n' "$line" >>"$1"
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  rewards=$(printf '%s' "$line" | grep -o '"num_tokens":[0-9]*' | sed 's/.*:/0./' | paste -sd, -)
  printf '{"id": %s, "rewards": [%s]}\n' "$id" "$rewards"
done
"#;

fn settings(extra: &[&str]) -> Resolved {
    let layers: Vec<Layer> = BASE.iter().chain(extra).map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap()
}

fn refusal(extra: &[&str]) -> String {
    let layers: Vec<Layer> = extra.iter().map(|setting| Layer::Override((*setting).to_owned())).collect();
    resolve(&layers).unwrap_err().to_string()
}

fn file(dir: &Path, text: &str) -> Resolved {
    let path = dir.join("own.toml");
    fs::write(&path, text).unwrap();
    let base = BASE.iter().map(|setting| Layer::Override((*setting).to_owned()));
    resolve(&base.chain([Layer::File(path)]).collect::<Vec<_>>()).unwrap()
}

fn finish(run: &mut Run) {
    while !run.is_finished() {
        run.step().unwrap();
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: no python3");
    }
    found
}

/// The rewards that a whole run gave, which are all of this component alone.
fn trained(settings: &Resolved, name: &str) -> Vec<f64> {
    let temp = tempfile::tempdir().unwrap();
    let mut run = Run::create(settings, &temp.path().join("run")).unwrap();
    finish(&mut run);
    let metrics = lines(&run.folder().path().join(RunFolder::METRICS));
    assert_eq!(metrics.len(), 2);
    assert!(metrics[0][format!("rewards/{name}/mean")].is_number(), "{}", metrics[0]);
    assert!(metrics[0].get("rewards/accuracy/mean").is_none());
    let completions = lines(&run.folder().completions_file(1));
    completions.iter().map(|line| line["rewards"][name].as_f64().unwrap()).collect()
}

fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut open, mut files) = (vec![dir.to_owned()], BTreeMap::new());
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if name != RunFolder::TIMINGS && !name.starts_with("log") {
            files.insert(path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_killed_and_resumed_run_asks_nothing_twice_and_ends_with_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    fs::write(temp.path().join("halves.sh"), HALVES).unwrap();
    let log = temp.path().join("asked.jsonl");
    let text = format!("[rewards.mine]\ncommand = ['sh', 'halves.sh', '{}']\nbatch = 3\n", log.display());
    let settings = file(temp.path(), &text);
    let (whole, parted) = (temp.path().join("whole"), temp.path().join("parted"));
    let mut run = Run::create(&settings, &whole).unwrap();
    finish(&mut run);
    drop(run);
    let timings = lines(&whole.join(RunFolder::TIMINGS));
    assert!(timings[0]["rewards"]["mine"]["requests"].as_u64().unwrap() > 1, "{}", timings[0]);
    fs::remove_file(&log).unwrap();

    let mut run = Run::create(&settings, &parted).unwrap();
    finish(&mut run);
    drop(run);
    let first: BTreeSet<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    // As after a kill in the second step: its answers are known, and nothing else of it.
    fs::remove_dir_all(parted.join("checkpoints/step-2")).unwrap();
    let kept = parted.join("reward_cache/mine.jsonl");
    let torn = fs::read_to_string(&kept).unwrap() + "{\"draw\":1,\"sam";
    fs::write(&kept, torn).unwrap();
    let resumed = dapo_run::settings_of(&parted, &[]).unwrap();
    let mut run = Run::resume(&resumed, &parted).unwrap();
    finish(&mut run);
    drop(run);
    let asked: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    assert_eq!((asked.len(), asked.into_iter().collect::<BTreeSet<_>>()), (first.len(), first));
    let (one, other) = (content(&whole), content(&parted));
    assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
    for (name, bytes) in &one {
        assert!(other[name] == *bytes, "{name}");
    }
}

#[test]
fn functions_for_trl_and_verl_train_without_changes() {
    if !has_python() {
        return;
    }
    let temp = tempfile::tempdir().unwrap();
    let source = "
def trl(completions, answer, **kwargs):
    return [float(len(c) % 3) for c, a in zip(completions, answer)]

def verl(data_source, solution_str, ground_truth, extra_info=None):
    return {'score': float(len(solution_str) % 3), 'acc': 1 if ground_truth in solution_str else 0}
";
    fs::write(temp.path().join("rewards.py"), source).unwrap();
    let of = |function: &str| {
        trained(&file(temp.path(), &format!("[rewards.mine]\npython = 'rewards.py:{function}'")), "mine")
    };
    assert_eq!(of("trl"), of("verl"));
    let command = "import sys, json
for line in sys.stdin:
    ask = json.loads(line)
    rewards = [float(len(s['completion']) % 3) for s in ask['samples']]
    print(json.dumps({'id': ask['id'], 'rewards': rewards}), flush=True)
";
    fs::write(temp.path().join("r.py"), command).unwrap();
    assert_eq!(trained(&file(temp.path(), "rewards.mine.command = ['python3', 'r.py']"), "mine"), of("trl"));
}

#[test]
fn a_server_trains() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("rewards.judge.url=http://{}/score", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut length = 0;
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim().to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                if line.is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let ask: Value = serde_json::from_slice(&body).unwrap();
            let rewards: Vec<u64> =
                ask["samples"].as_array().unwrap().iter().map(|s| s["num_tokens"].as_u64().unwrap()).collect();
            let body = serde_json::json!({"id": ask["id"], "rewards": rewards}).to_string();
            let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all((head + &body).as_bytes()).unwrap();
        }
    });
    assert!(trained(&settings(&[&url]), "judge").iter().all(|tokens| *tokens >= 1.0));
}

#[test]
fn a_rule_trains_beside_accuracy() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["rewards.digits.kind=regex", "rewards.digits.pattern='(\\d)'", "rewards.digits.weight=0.5"];
    let mut run = Run::create(&settings(&own), &temp.path().join("run")).unwrap();
    finish(&mut run);
    let metrics = lines(&run.folder().path().join(RunFolder::METRICS));
    assert!(["digits", "accuracy"].iter().all(|name| metrics[0][format!("rewards/{name}/mean")].is_number()));
}

#[test]
fn a_fault_stops_the_run_and_names_reward_fault_and_step() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["rewards.mine.command=['sh', '-c', 'read line; exit 3']"];
    let mut run = Run::create(&settings(&own), &temp.path().join("run")).unwrap();
    let error = run.step().unwrap_err();
    let (mut chain, mut source) = (error.to_string(), error.source());
    while let Some(error) = source {
        chain = format!("{chain}: {error}");
        source = error.source();
    }
    for text in ["mine", "step 1", "exit"] {
        assert!(chain.contains(text), "no {text:?} in {chain}");
    }
}

#[test]
fn a_failed_request_may_abstain_and_is_shown() {
    let temp = tempfile::tempdir().unwrap();
    let own = ["rewards.mine.command=['sh', '-c', 'read line; echo nonsense']", "rewards.mine.on_error=abstain"];
    let weights = ["rewards.mine.weight=0", "rewards.accuracy.weight=1"];
    let mut run = Run::create(&settings(&[&own[..], &weights].concat()), &temp.path().join("run")).unwrap();
    let progress = run.step().unwrap();
    assert!(progress.step().unwrap().faults[0].starts_with("rewards.mine: step 1: "));
    let timings = lines(&run.folder().path().join(RunFolder::TIMINGS));
    assert!(timings[0]["rewards"]["mine"]["faults"]["json"].as_u64() > Some(0), "{}", timings[0]);
}

#[test]
fn tables_have_one_kind_and_its_keys() {
    for (extra, expected) in [
        (
            &["rewards.acuracy.weight=2"][..],
            "command line: unknown key rewards.acuracy; did you mean rewards.accuracy?",
        ),
        (
            &["rewards.mine.comand=['x']"],
            "command line: unknown key rewards.mine.comand; did you mean rewards.mine.command?",
        ),
        (
            &["rewards.zzz.weight=2"],
            "command line: rewards.zzz is a table that says not what scores, expected one with command, url, python, kind",
        ),
        (
            &["rewards.mine.command=['x']", "rewards.mine.url=http://a/"],
            "command line: rewards.mine.url is \"http://a/\", expected unset beside rewards.mine.command",
        ),
        (
            &["rewards.mine.command=['x']", "rewards.mine.pattern=a"],
            "command line: rewards.mine.pattern is \"a\", expected nothing, as rewards.mine is of kind command; only regex has it",
        ),
    ] {
        assert_eq!(refusal(extra), expected);
    }
}

#[test]
fn relative_paths_are_those_of_the_file_and_settings_are_read_back() {
    let temp = tempfile::tempdir().unwrap();
    let text = "[rewards.mine]\nweight = 0.5\npython = 'rewards.py:f'\n[rewards.code]\nlanguage = 'rust'\n[rewards.far]\n\
        url = 'http://localhost:1/'\napi_key_env = 'KEY'\n";
    let settings = file(temp.path(), text);
    let own = &settings.config.rewards.own.0;
    let base = temp.path().to_str().unwrap().trim_end_matches('/');
    assert_eq!(own["mine"].dir.as_deref().map(|dir| dir.trim_end_matches('/')), Some(base));
    assert!(settings.config.rewards.accuracy.is_none());
    let written = settings.to_toml().unwrap();
    assert!(written.contains("# [rewards.accuracy] is not set") && written.contains("\n[rewards.code]\n"), "{written}");
    let other = tempfile::tempdir().unwrap();
    assert_eq!(file(other.path(), &written).config, settings.config);
    let with = |setting: &str| {
        let layers = ["rewards.mine.command=['x']", setting].map(|word| Layer::Override(word.to_owned()));
        resolve(&layers).unwrap().config.rewards.accuracy
    };
    assert!(with("rewards.accuracy.weight=0.5").is_some() && with("seed=1").is_none());
}
