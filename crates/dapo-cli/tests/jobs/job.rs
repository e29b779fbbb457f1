//! Jobs of `mpirun`, their processes, and the folders they leave.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Six steps with dynamic sampling, carried groups and evaluations. The shards allow four ranks.
pub(crate) const TINY: [&str; 10] = [
    "tiny",
    "rollout.group_size=8",
    "sampler.train_batch=6",
    "sampler.gen_batch=8",
    "train.steps=6",
    "train.shards=4",
    "eval.every=3",
    "eval.limit=16",
    "output.checkpoint_every=2",
    "dist.timeout_s=60",
];

/// What a job came to.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn success(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    /// Checks the exit code, and that stderr says everything in `said`.
    #[track_caller]
    pub(crate) fn failure(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for text in said {
            assert!(self.stderr.contains(text), "no {text:?} in {}", self.stderr);
        }
        self
    }
}

/// Whether Python can be run; says so aloud where it cannot.
pub(crate) fn python() -> bool {
    let is_there = Command::new("python3").arg("--version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        println!("SKIPPED: no python3");
    }
    is_there
}

/// One job at a time: they are timed, and the machine may have two cores.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `dapo` without `mpirun`.
pub(crate) fn dapo() -> Command {
    piped(Command::new(env!("CARGO_BIN_EXE_dapo")))
}

/// `mpirun` of as many ranks as there are folders, each working in its own, with the same arguments.
pub(crate) fn mpirun_in(folders: &[&Path], args: &[&str]) -> Command {
    let mut command = mpirun();
    for (rank, folder) in folders.iter().enumerate() {
        if rank > 0 {
            command.arg(":");
        }
        command.args(["-n", "1", "--wdir"]).arg(folder).arg(env!("CARGO_BIN_EXE_dapo")).args(args);
    }
    command
}

/// `mpirun` of a number of ranks of `dapo`.
pub(crate) fn mpirun_of(ranks: usize, args: &[&str]) -> Command {
    let mut command = mpirun();
    command.args(["-n", &ranks.to_string()]).arg(env!("CARGO_BIN_EXE_dapo")).args(args);
    command
}

/// `mpirun`, or what `DAPO_DIST_MPIRUN` has in its place.
fn mpirun() -> Command {
    let launcher = env::var("DAPO_DIST_MPIRUN").unwrap_or_else(|_| "mpirun".to_owned());
    let mut words = launcher.split(' ');
    let mut command = piped(Command::new(words.next().unwrap()));
    command.args(words).arg("--oversubscribe");
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command
}

fn piped(mut command: Command) -> Command {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub(crate) fn end(child: Child) -> Ended {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ended { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

pub(crate) fn run(mut command: Command) -> Ended {
    end(command.spawn().unwrap())
}

/// The arguments of a training into a folder.
pub(crate) fn training<'a>(settings: &[&'a str], out: &'a Path) -> Vec<&'a str> {
    [&["train"], settings, &["--out", out.to_str().unwrap()]].concat()
}

pub(crate) fn resuming<'a>(folder: &'a Path, settings: &[&'a str]) -> Vec<&'a str> {
    [&["train", "--resume", folder.to_str().unwrap()], settings].concat()
}

/// Waits until a run has made a number of steps.
#[track_caller]
pub(crate) fn wait_for_steps(folder: &Path, steps: usize, child: &mut Child) {
    let since = Instant::now();
    loop {
        let metrics = fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
        if metrics.lines().count() >= steps {
            return;
        }
        assert!(child.try_wait().unwrap().is_none(), "the job ended before step {steps}");
        assert!(since.elapsed() < Duration::from_mins(2), "no step {steps}");
        sleep(Duration::from_millis(5));
    }
}

/// The process of a rank, which its supervisor started, of the job with `mark` in its arguments.
#[track_caller]
pub(crate) fn process_of(rank: usize, mark: &Path) -> u32 {
    let mark = mark.to_str().unwrap().as_bytes();
    let holds = |text: &[u8], part: &[u8]| text.windows(part.len()).any(|window| window == part);
    let variable = format!("\0OMPI_COMM_WORLD_RANK={rank}\0");
    let is_rank = |process: &Path| {
        let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        let environment = [b"\0", read("environ").as_slice(), b"\0"].concat();
        holds(&read("cmdline"), mark)
            && holds(&environment, variable.as_bytes())
            && holds(&environment, b"\0DAPO_DIST_SUPERVISOR=")
    };
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap());
    let mut found = processes.filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        is_rank(&entry.path()).then_some(id)
    });
    found.next().unwrap_or_else(|| panic!("no process of rank {rank}"))
}

/// Whether any rank of a job is left.
pub(crate) fn is_left(mark: &Path) -> bool {
    let mark = mark.to_str().unwrap().as_bytes();
    fs::read_dir("/proc").unwrap().any(|entry| {
        let command = fs::read(entry.unwrap().path().join("cmdline")).unwrap_or_default();
        command.windows(mark.len()).any(|window| window == mark)
    })
}

#[track_caller]
pub(crate) fn send(signal: &str, process: u32) {
    assert!(Command::new("kill").args([signal, &process.to_string()]).status().unwrap().success());
}

/// All files of a run folder that must be the same, by their paths in it: ARCHITECTURE.md names the others.
pub(crate) fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    fn collect(folder: &Path, dir: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            let differs = ["timings.jsonl", "trackers", ".lock"].contains(&name.as_str()) || name.starts_with("log");
            if path.is_dir() && !differs {
                collect(folder, &path, found);
            } else if !differs {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(folder, folder, &mut found);
    found
}

#[track_caller]
pub(crate) fn assert_same(found: &Path, expected: &Path, what: &str) {
    let (found, expected) = (files(found), files(expected));
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&found), names(&expected), "{what}");
    let other: Vec<_> = found.iter().filter(|(name, bytes)| expected[*name] != **bytes).map(|(name, _)| name).collect();
    assert!(other.is_empty(), "{what}: {other:?} differ");
    assert!(found.keys().any(|name| name.extension().is_some_and(|extension| extension == "safetensors")), "{what}");
}
