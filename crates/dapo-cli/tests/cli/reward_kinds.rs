//! Each way to score trains the tiny model. What answers from outside hangs, crashes and talks nonsense, and the run is
//! killed in between: the resumed run asks nothing twice and leaves the same bytes.

use crate::{TINY_MODEL, dapo, folder};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Three steps of two prompts with four completions each: four requests of two samples a step.
const SMALL: [&str; 14] = [
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=24",
    "sampler.train_batch=2",
    "sampler.gen_batch=2",
    "sampler.dynamic=false",
    "optimizer.warmup_steps=0",
    "optimizer.lr=1e-4",
    "train.steps=3",
    "eval.every=none",
    "output.checkpoint_every=1",
    "output.keep_checkpoints=3",
    "rewards.accuracy.on_abstain=ignore",
];

/// Settings of a reward that is asked two samples at a time, and whose faults abstain.
const ASKED: &str = "batch = 2\non_error = 'abstain'\non_abstain = 'ignore'\ntimeout_s = 8\n";

/// Which request, counted over all processes, has which fault, and at which the run is killed.
struct Script {
    faults: &'static str,
    kill: usize,
    /// How the faults are counted.
    counted: Value,
}

fn of_requests() -> Script {
    Script {
        faults: "2=hang 4=crash 6=garbage 8=count 10=nan 12=reorder",
        kill: 7,
        counted: json!({"timeout": 1, "exit": 1, "json": 2, "count": 1, "id": 1}),
    }
}

/// In shell: `0.N` for N tokens.
const SHELL: &str = r#"
while IFS= read -r line; do
  n=$(($(wc -l <"$ASKED") + 1))
  if [ "$n" -eq "$KILL" ] && [ ! -e "$KILLED" ]; then
    : >"$KILLED"
    kill -9 "$PPID"
    exit
  fi
  printf '%s\n' "$line" >>"$ASKED"
  id=$(printf '%s' "$line" | sed 's/^{"id":\([0-9]*\),.*/\1/')
  rewards=$(printf '%s' "$line" | grep -o '"num_tokens":[0-9]*' | sed 's/.*:/0./' | paste -sd, -)
  case " $FAULTS " in
    *" $n=hang "*) sleep 60 ;;
    *" $n=crash "*) exit 3 ;;
    *" $n=garbage "*) echo nonsense; continue ;;
    *" $n=count "*) rewards="$rewards, 0.5" ;;
    *" $n=nan "*) rewards=$(printf '%s' "$rewards" | sed 's/^[^,]*/NaN/') ;;
    *" $n=reorder "*) id=$((id + 1)) ;;
  esac
  printf '{"id": %s, "rewards": [%s]}\n' "$id" "$rewards"
done
"#;

/// In Python: a command, TRL's function and verl's, with the same values.
const PYTHON: &str = r#"
import json, os, signal, sys, time


def asked(samples):
    """Notes what is asked; the fault that is due."""
    with open(os.environ["ASKED"], "a+") as file:
        file.seek(0)
        count = sum(1 for _ in file) + 1
        if count == int(os.environ["KILL"]) and not os.path.exists(os.environ["KILLED"]):
            open(os.environ["KILLED"], "w").close()
            os.kill(os.getppid(), signal.SIGKILL)
            os._exit(0)
        file.write(json.dumps(samples) + "\n")
    fault = dict(entry.split("=") for entry in os.environ["FAULTS"].split()).get(str(count))
    if fault == "hang":
        time.sleep(60)
    if fault == "crash":
        os._exit(3)
    if fault == "raise":
        raise RuntimeError("nothing to say")
    return fault


def value(completion):
    return len(completion) / 100


def trl(completions, prompts, answer, **columns):
    fault = asked([list(pair) for pair in zip(prompts, completions)])
    rewards = [value(completion) for completion in completions]
    if fault == "count":
        return rewards + [0.5]
    if fault == "nan":
        return [float("nan")] + rewards[1:]
    return "nonsense" if fault == "garbage" else rewards


def verl(data_source, solution_str, ground_truth, extra_info=None):
    fault = asked([ground_truth, solution_str])
    if fault == "garbage":
        return "nonsense"
    return {"score": float("nan") if fault == "nan" else value(solution_str), "acc": ground_truth in solution_str}


def main():
    for line in sys.stdin:
        request = json.loads(line)
        fault = asked(request["samples"])
        rewards = [value(sample["completion"]) for sample in request["samples"]]
        if fault == "count":
            rewards.append(0.5)
        if fault == "nan":
            rewards[0] = float("nan")
        reply = {"id": request["id"] + (fault == "reorder"), "rewards": rewards}
        print("nonsense" if fault == "garbage" else json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
"#;

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        println!("SKIPPED: no python3");
    }
    found
}

/// Files and settings of one test.
struct Place {
    temp: tempfile::TempDir,
    server: Option<Server>,
}

impl Place {
    fn new() -> Self {
        let temp = folder();
        fs::write(temp.path().join("judge.sh"), SHELL).unwrap();
        fs::write(temp.path().join("rewards.py"), PYTHON).unwrap();
        Self { temp, server: None }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, text: &str) -> PathBuf {
        let file = self.at("own.toml");
        fs::write(&file, text).unwrap();
        file
    }

    /// Runs `dapo train`, with the script's environment for hosts of this run; the exit code and what it said.
    fn train(&self, args: &[&str], run: &str, script: &Script) -> (Option<i32>, String) {
        let asked = self.at(&format!("{run}-asked"));
        if !asked.exists() {
            fs::write(&asked, "").unwrap();
        }
        let mut command = Command::new(env!("CARGO_BIN_EXE_dapo"));
        command.arg("train").args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.env("ASKED", &asked).env("KILLED", self.at(&format!("{run}-killed")));
        command.env("FAULTS", script.faults).env("KILL", script.kill.to_string());
        let child = command.spawn().unwrap();
        if let Some(server) = &self.server {
            server.child.store(child.id(), Ordering::SeqCst);
        }
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    fn create(&self, settings: &Path, run: &str, script: &Script) -> (Option<i32>, String) {
        let (settings, out) = (settings.to_str().unwrap(), self.at(run));
        self.train(&[&SMALL[..], &[settings, "--out", out.to_str().unwrap()]].concat(), run, script)
    }

    fn resume(&self, run: &str, script: &Script) -> String {
        let out = self.at(run);
        let (code, said) = self.train(&["--resume", out.to_str().unwrap()], run, script);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// What the host of a run was asked, in order: prompts and completions by request.
    fn asked(&self, run: &str) -> Vec<Value> {
        let text = match &self.server {
            Some(server) => std::mem::take(&mut *server.asked.lock().unwrap()),
            None => fs::read_to_string(self.at(&format!("{run}-asked"))).unwrap(),
        };
        let line = |line: &str| {
            let mut value: Value = serde_json::from_str(line).unwrap();
            // Numbers of requests start again with the process.
            if value.get("samples").is_some() { value["samples"].take() } else { value }
        };
        text.lines().map(line).collect()
    }

    fn assert_same_bytes(&self, one: &str, other: &str) {
        let (one, other) = (content(&self.at(one)), content(&self.at(other)));
        assert_eq!(one.keys().collect::<Vec<_>>(), other.keys().collect::<Vec<_>>());
        for (name, bytes) in &one {
            assert!(other[name] == *bytes, "{name}");
        }
    }

    /// The value that each trained completion got from this reward.
    fn values(&self, run: &str, name: &str) -> Vec<Option<f64>> {
        let files = (1..=3).map(|step| self.at(run).join(format!("completions/step-{step}.jsonl")));
        files.flat_map(|file| lines(&file)).map(|line| line["rewards"][name].as_f64()).collect()
    }

    /// Trains through all faults, once in one go and once killed in between.
    fn check(&self, reward: &str, script: &Script) {
        // One group at a time, so that requests are the same however groups end beside each other.
        let settings =
            self.write(&format!("[rollout]\ngroup_size = 8\n[sampler]\ntrain_batch = 1\ngen_batch = 1\n{reward}"));
        fs::write(self.at("whole-killed"), "").unwrap();
        let (code, said) = self.create(&settings, "whole", script);
        assert_eq!(code, Some(0), "{said}");
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        for line in lines(&self.at("whole/timings.jsonl")) {
            for (kind, count) in line["rewards"]["mine"]["faults"].as_object().into_iter().flatten() {
                *counted.entry(kind.clone()).or_default() += count.as_u64().unwrap();
            }
        }
        assert_eq!(serde_json::to_value(counted).unwrap(), script.counted, "{said}");
        let values = self.values("whole", "mine");
        let faults = script.faults.split_whitespace().count();
        let abstained = values.iter().filter(|value| value.is_none()).count();
        assert_eq!((values.len(), abstained), (24, 2 * faults), "{values:?}");
        assert!(values.iter().flatten().any(|value| *value > 0.0), "{values:?}");
        let asked = self.asked("whole");

        let (code, said) = self.create(&settings, "parted", script);
        assert_eq!(code, None, "the host ends the run by SIGKILL: {said}");
        assert!(!self.at("parted/checkpoints/step-3").exists());
        let said = self.resume("parted", script);
        assert!(said.contains(" answers are known from reward_cache/mine.jsonl and not asked for again"), "{said}");
        assert_eq!(self.asked("parted"), asked, "what was answered is not asked again");
        self.assert_same_bytes("whole", "parted");
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The files of a run that must not differ between repetitions.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let (mut open, mut files) = (vec![dir.to_owned()], BTreeMap::new());
    while let Some(path) = open.pop() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if name != "timings.jsonl" && name != ".lock" && !name.starts_with("log") {
            files.insert(path.strip_prefix(dir).unwrap().display().to_string(), fs::read(&path).unwrap());
        }
    }
    files
}

#[test]
fn a_command_in_shell_trains_through_faults_and_a_kill() {
    let reward = format!("[rewards.mine]\ncommand = ['sh', 'judge.sh']\n{ASKED}[rewards.accuracy]\nweight = 1\n");
    Place::new().check(&reward, &of_requests());
}

#[test]
fn a_command_in_python_trains_through_faults_and_a_kill() {
    if has_python() {
        let command = "command = ['python3', 'rewards.py']";
        let reward = format!("[rewards.mine]\n{command}\n{ASKED}[rewards.accuracy]\nweight = 1\n");
        Place::new().check(&reward, &of_requests());
    }
}

#[test]
fn a_function_for_trl_trains_through_faults_and_a_kill() {
    if has_python() {
        let reward = format!("[rewards.mine]\npython = 'rewards.py:trl'\n{ASKED}[rewards.accuracy]\nweight = 1\n");
        let script = Script {
            faults: "2=hang 4=crash 6=garbage 8=count 10=nan 12=raise",
            kill: 7,
            counted: json!({"timeout": 1, "exit": 1, "reported": 3, "count": 1}),
        };
        Place::new().check(&reward, &script);
    }
}

#[test]
fn a_function_for_verl_trains_through_faults_and_a_kill() {
    if has_python() {
        let reward = format!("[rewards.mine]\npython = 'rewards.py:verl'\n{ASKED}[rewards.accuracy]\nweight = 1\n");
        // It is called for each sample, two in a request; a fault at the first leaves the second out.
        let script = Script {
            faults: "3=hang 6=crash 9=garbage 12=nan 15=raise",
            kill: 10,
            counted: json!({"timeout": 1, "exit": 1, "reported": 3}),
        };
        Place::new().check(&reward, &script);
    }
}

/// A server that follows a script, and ends the run itself when it is to be killed.
struct Server {
    url: String,
    /// Requests, a line each.
    asked: Arc<Mutex<String>>,
    /// The run's process.
    child: Arc<AtomicU32>,
}

impl Server {
    fn start(script: &Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/score", listener.local_addr().unwrap());
        let (asked, child) = (Arc::new(Mutex::new(String::new())), Arc::new(AtomicU32::new(0)));
        let faults: BTreeMap<usize, &'static str> = script
            .faults
            .split(' ')
            .filter_map(|entry| entry.split_once('='))
            .map(|(n, f)| (n.parse().unwrap(), f))
            .collect();
        let (kill, log, process) = (script.kill, Arc::clone(&asked), Arc::clone(&child));
        std::thread::spawn(move || {
            // The first run is not killed.
            let mut runs = 0;
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let body = body(&stream);
                let request: Value = serde_json::from_str(&body).unwrap();
                let count = log.lock().unwrap().lines().count() + 1;
                runs += usize::from(count == 1);
                if runs == 2 && count == kill {
                    runs += 1;
                    let pid = process.load(Ordering::SeqCst).to_string();
                    Command::new("kill").args(["-9", &pid]).status().unwrap();
                    continue;
                }
                log.lock().unwrap().push_str(&(body.trim_end().to_owned() + "\n"));
                answer(&mut stream, &request, faults.get(&count).copied());
            }
        });
        Self { url, asked, child }
    }
}

fn body(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
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
    String::from_utf8(body).unwrap()
}

fn answer(stream: &mut TcpStream, request: &Value, fault: Option<&str>) {
    let samples = request["samples"].as_array().unwrap();
    let mut rewards: Vec<Value> = samples.iter().map(|s| json!(s["num_tokens"].as_f64().unwrap() / 100.0)).collect();
    let mut id = request["id"].as_u64().unwrap();
    match fault {
        Some("crash") => return,
        Some("hang") => std::thread::sleep(Duration::from_secs(9)),
        Some("count") => rewards.push(json!(0.5)),
        Some("nan") => rewards[0] = json!("NaN"),
        Some("reorder") => id += 1,
        _ => {}
    }
    let reply = json!({"id": id, "rewards": rewards}).to_string().replace("\"NaN\"", "NaN");
    let reply = if fault == Some("garbage") { "nonsense".to_owned() } else { reply };
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", reply.len());
    // A client that gave up does not read.
    let _ = stream.write_all((head + &reply).as_bytes());
}

#[test]
fn a_server_trains_through_faults_and_a_kill() {
    let counted = json!({"timeout": 1, "connection": 1, "json": 2, "count": 1, "id": 1});
    let script = Script { counted, ..of_requests() };
    let server = Server::start(&script);
    let reward =
        format!("[rewards.mine]\nurl = '{}'\nretries = 0\n{ASKED}[rewards.accuracy]\nweight = 1\n", server.url);
    Place { server: Some(server), ..Place::new() }.check(&reward, &script);
}

#[test]
fn problems_without_answers_train_with_a_command() {
    let place = Place::new();
    let rows: Vec<String> = (10..30).map(|n| json!({"prompt": format!("{n}+7=")}).to_string()).collect();
    fs::write(place.at("prompts.jsonl"), rows.join("\n")).unwrap();
    let reward = format!(
        "[data]\ntrain = '{}'\n[rewards.mine]\ncommand = ['sh', 'judge.sh']\n{ASKED}[rewards]\naccuracy.weight = 0\n",
        place.at("prompts.jsonl").display()
    );
    place.check(&reward, &Script { faults: "", kill: 7, counted: json!({}) });
}

/// Trains with a reward that nothing outside computes, and once more from the checkpoint before the last.
fn check_pure(place: &Place, name: &str, text: &str) -> Vec<Option<f64>> {
    let script = Script { faults: "", kill: 0, counted: Value::Null };
    let settings = place.write(text);
    for run in ["whole", "parted"] {
        let (code, said) = place.create(&settings, run, &script);
        assert_eq!(code, Some(0), "{said}");
    }
    // As after a kill in the last step.
    fs::remove_dir_all(place.at("parted/checkpoints/step-3")).unwrap();
    place.resume("parted", &script);
    place.assert_same_bytes("whole", "parted");
    let values = place.values("whole", name);
    assert_eq!(values.len(), 24);
    // Some are rewarded and some are not: there is something to learn.
    assert!(values.contains(&Some(0.0)) && values.iter().flatten().any(|value| *value > 0.0), "{values:?}");
    values
}

#[test]
fn a_pattern_trains() {
    check_pure(&Place::new(), "mine", "[rewards.mine]\nkind = 'regex'\npattern = '#(\\d+)$'\ncompare = 'answer'\n");
}

/// One or two characters, of which some are a number.
const SHORT: &str = "[rollout]\nmax_new_tokens = 2\ntemperature = 1.5\n";

#[cfg(feature = "json-schema")]
#[test]
fn a_json_schema_trains() {
    let place = Place::new();
    let inline = check_pure(
        &place,
        "mine",
        &format!("{SHORT}[rewards.mine]\nkind = 'json'\n[rewards.mine.schema]\ntype = 'integer'\nminimum = 20\n"),
    );
    let place = Place::new();
    fs::write(place.at("schema.json"), r#"{"type": "integer", "minimum": 20}"#).unwrap();
    let text = format!("{SHORT}[rewards.mine]\nkind = 'json'\nschema_file = 'schema.json'\n");
    assert_eq!(check_pure(&place, "mine", &text), inline);
}

#[cfg(not(feature = "json-schema"))]
#[test]
fn a_json_schema_says_which_build_it_needs() {
    let place = Place::new();
    for (key, file) in [("schema = { type = 'integer' }", "set"), ("schema_file = 'schema.json'", "schema.json")] {
        fs::write(place.at("schema.json"), "{}").unwrap();
        let settings = place.write(&format!("{SHORT}[rewards.mine]\nkind = 'json'\n{key}\n"));
        let check = dapo(&["config", "check", settings.to_str().unwrap()]);
        check.failure(1, &["rewards.mine.schema", file, "a build with --features json-schema"]);
    }
}

/// The tiny model with another decoder: what it writes as `####46` is a code block that prints 46.
fn answers_as_programs(dir: &Path) {
    fs::create_dir(dir).unwrap();
    for entry in fs::read_dir(TINY_MODEL).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.join(entry.file_name())).unwrap();
    }
    let file = dir.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let replace = |pattern: Value, content: &str| json!({"type": "Replace", "pattern": pattern, "content": content});
    let begin = replace(json!({"String": "####"}), "\n```python\nprint(");
    let end = replace(json!({"Regex": "$"}), ")\n```\n");
    tokenizer["decoder"] = json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, begin, end]});
    fs::write(file, tokenizer.to_string()).unwrap();
}

#[test]
fn programs_that_pass_their_tests_train() {
    let interpreter = if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    if !Command::new(interpreter).arg("--version").output().is_ok_and(|output| output.status.success()) {
        println!("SKIPPED: no python3");
        return;
    }
    let place = Place::new();
    answers_as_programs(&place.at("model"));
    let row = |n: u32| {
        let tests = json!([{"output": (n + 21).to_string()}, {"output": "never"}]);
        json!({"question": format!("{n}+17+4="), "tests": tests}).to_string()
    };
    fs::write(place.at("problems.jsonl"), (3..40).map(row).collect::<Vec<_>>().join("\n")).unwrap();
    let text = |sandbox: &str| {
        format!(
            "[model]\npath = '{}'\n[data]\ntrain = '{}'\n[rewards]\ncorrect = 'code'\naccuracy.weight = 0\n\
             [rewards.code]\npython = '{interpreter}'\nsandbox = '{sandbox}'\n[rollout]\nmax_new_tokens = 64\n",
            place.at("model").display(),
            place.at("problems.jsonl").display()
        )
    };
    let strict = place.write(&text("strict"));
    let script = Script { faults: "", kill: 0, counted: Value::Null };
    let (code, said) = place.create(&strict, "trial", &script);
    let sandbox = if code == Some(0) {
        "strict"
    } else {
        assert!(said.contains("rewards.code"), "{said}");
        println!("SKIPPED, strict: {said}");
        "rlimits-only"
    };
    let values = check_pure(&place, "code", &text(sandbox));
    assert!(values.contains(&Some(0.5)), "one of two tests: {values:?}");
}

#[test]
fn the_recipe_for_programs_in_rust_is_valid_and_can_be_tried() {
    let run = dapo(&["train", "rust-coder", "--dry-run"]).success();
    assert!(run.stdout.contains("builtin:rust") && run.stdout.contains("language = \"rust\""), "{}", run.stdout);
    let temp = folder();
    let file = temp.path().join("coder.toml");
    fs::write(&file, dapo(&["recipes", "rust-coder"]).success().stdout).unwrap();
    dapo(&["config", "check", file.to_str().unwrap()]).success();
    let out = temp.path().join("run");
    let args = ["train", "rust-coder", "train.steps=1", "sampler.train_batch=2", "sampler.dynamic=false", "--out"];
    let run = dapo(&[&args[..], &[out.to_str().unwrap()]].concat());
    if run.code != Some(0) && run.stderr.contains("rewards.code") {
        println!("SKIPPED: {}", run.stderr);
        return;
    }
    run.success();
    let completions = lines(&out.join("completions/step-1.jsonl"));
    assert!(!completions.is_empty() && completions.iter().all(|line| line["rewards"]["code"] == 0.0));
}
