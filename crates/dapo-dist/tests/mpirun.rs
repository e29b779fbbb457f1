//! Processes under `mpirun`: the bits of worlds of threads, and faults that end the job. This program is also the one
//! that `mpirun` starts, as `DAPO_DIST_PROBE` says.
//!
//! `scripts/mpi-check` builds and runs it, `scripts/mpi-namespaces` on two machines: `DAPO_DIST_MPIRUN` is the command in
//! place of `mpirun`, and `DAPO_DIST_CUT` one that cuts the link between them.
#![allow(clippy::unwrap_used)]

mod common;

use common::{gradients, step};
use dapo_dist::{Binding, EXIT_MISSING_RANK, Inbox, Options, World, handshake, open, share, supervise, threads, widen};
use std::{
    env,
    io::{BufRead, BufReader, Read},
    path::Path,
    process::{Command, ExitCode, Stdio},
    thread::{scope, sleep},
    time::{Duration, Instant},
};

const PROBE: &str = "DAPO_DIST_PROBE";
const LAUNCHER: &str = "DAPO_DIST_MPIRUN";
const CUT: &str = "DAPO_DIST_CUT";
const DEADLINE: Duration = Duration::from_secs(2);
/// What a fault may take beyond the deadline.
const GRACE: Duration = Duration::from_secs(3);
const SHARDS: usize = 4;
const VALUES: usize = 300_007;
const BLOCK: usize = 4096;
const RANKS: [usize; 3] = [1, 2, 4];

fn main() -> ExitCode {
    if let Ok(probe) = env::var(PROBE) {
        return ExitCode::from(rank(&probe));
    }
    let tests: [(&str, fn()); 10] = [
        ("sums_have_the_bits_of_threads_at_any_size", sums_have_the_bits_of_threads_at_any_size),
        ("long_messages_arrive_whole", long_messages_arrive_whole),
        ("a_waiting_rank_hardly_uses_its_core", a_waiting_rank_hardly_uses_its_core),
        ("a_dead_rank_ends_the_job", a_dead_rank_ends_the_job),
        ("a_stopped_rank_ends_the_job", a_stopped_rank_ends_the_job),
        ("a_rank_whose_supervisor_is_killed_dies_with_it", a_rank_whose_supervisor_is_killed_dies_with_it),
        ("a_rank_that_fails_ends_the_job", a_rank_that_fails_ends_the_job),
        ("ranks_that_were_started_differently_are_refused", ranks_that_were_started_differently_are_refused),
        ("a_silent_singleton_is_refused", a_silent_singleton_is_refused),
        ("a_cut_link_ends_the_job", a_cut_link_ends_the_job),
    ];
    let asked: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, test) in tests {
        if asked.is_empty() || asked.iter().any(|part| name.contains(part)) {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

// What a rank does.

/// Runs a probe as a rank of the world; its exit code.
fn rank(probe: &str) -> u8 {
    supervise(DEADLINE + Duration::from_secs(1)).unwrap();
    let binding = widen();
    let world = match open(Options { deadline: DEADLINE, ..Options::default() }) {
        Ok(world) => world,
        Err(error) => {
            eprintln!("error: {error}");
            return 2;
        }
    };
    println!("pid {} {}", world.rank(), std::process::id());
    let result = match probe {
        "sums" => sums(&*world, binding),
        "long" => long(&*world),
        "slow" => slow(&*world),
        "steps" => steps(&*world),
        "fails" => fails(&*world),
        "differs" => handshake(&*world, &[("settings", world.rank().min(1).to_string())]),
        probe => panic!("no probe {probe}"),
    };
    if let Err(error) = result {
        println!("error: {error}");
        // All ranks have the same error, or else finishing ends the job.
        world.finish().unwrap();
        return 3;
    }
    world.finish().unwrap();
    0
}

fn sums(world: &dyn World, binding: Binding) -> Result<(), dapo_dist::DistError> {
    for shards in [SHARDS, 2 * SHARDS] {
        let outcome = step(world, &gradients(shards, VALUES), VALUES, BLOCK)?;
        println!("hash {shards} {:016x}", outcome.hash());
    }
    println!("threads {}", binding.threads());
    Ok(())
}

fn long(world: &dyn World) -> Result<(), dapo_dist::DistError> {
    let (rank, size) = (world.rank(), world.size());
    let length = (40 << 20) + 13;
    let message = |from: usize, to: usize| -> Vec<u8> {
        (0..length + from).map(|byte| (byte * 31 + from * 7 + to * 3) as u8).collect()
    };
    let messages: Vec<_> = (0..size).map(|to| message(rank, to)).collect();
    let mut arrived = vec![Vec::new(); size];
    let send: Vec<_> = messages.iter().map(Vec::as_slice).collect();
    world.phase("long messages");
    world.all_to_all(&send, &mut arrived.iter_mut().map(Inbox::Any).collect::<Vec<_>>())?;
    assert!((0..size).all(|from| arrived[from] == message(from, rank)));
    let mut bytes = if rank == 1 { message(1, 1) } else { Vec::new() };
    share(world, 1, &mut bytes)?;
    assert!(bytes == message(1, 1));
    Ok(())
}

fn slow(world: &dyn World) -> Result<(), dapo_dist::DistError> {
    world.barrier()?;
    let (start, before) = (Instant::now(), cpu_seconds());
    if world.rank() == 1 {
        while start.elapsed() < 3 * DEADLINE {
            world.heartbeat();
            sleep(DEADLINE / 40);
        }
    }
    world.phase("after a long wait");
    world.barrier()?;
    println!("waited {} {:.3} {:.3}", world.rank(), start.elapsed().as_secs_f64(), cpu_seconds() - before);
    Ok(())
}

/// Seconds of CPU that this process has used, to hundredths.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn steps(world: &dyn World) -> Result<(), dapo_dist::DistError> {
    let gradients = gradients(SHARDS, VALUES);
    for number in 1.. {
        step(world, &gradients, VALUES, BLOCK)?;
        if number == 3 {
            println!("running");
        }
    }
    Ok(())
}

/// Rank 1 leaves without a word.
fn fails(world: &dyn World) -> Result<(), dapo_dist::DistError> {
    world.barrier()?;
    if world.rank() == 1 {
        return world.broadcast(99, &mut Vec::new());
    }
    world.phase("after rank 1 has left");
    world.barrier()
}

// The tests.

/// `mpirun` of this program.
fn mpirun(ranks: usize, probe: &str) -> Command {
    let launcher = env::var(LAUNCHER).unwrap_or_else(|_| "mpirun".to_owned());
    let mut words = launcher.split(' ');
    let mut command = Command::new(words.next().unwrap());
    command.args(words);
    command.args(["--oversubscribe", "-x", PROBE, "-n", &ranks.to_string()]);
    command.arg(env::current_exe().unwrap()).env(PROBE, probe);
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
    pids: Vec<String>,
    /// From the fault.
    took: Duration,
}

/// What happens to rank 1 of a running job.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Nothing,
    Signal(&'static str),
    SupervisorKilled,
    LinkCut,
}

impl Fault {
    fn happen(self, pid: &str) {
        let shell = match self {
            Self::Nothing => return,
            Self::Signal(signal) => format!("kill {signal} {pid}"),
            Self::SupervisorKilled => {
                let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
                format!("kill -KILL {}", lines(&status, "PPid:")[0].replace("PPid:", ""))
            }
            Self::LinkCut => env::var(CUT).unwrap(),
        };
        assert!(Command::new("sh").args(["-c", &shell]).status().unwrap().success(), "{shell}");
    }
}

/// Runs a job; the fault happens when all ranks say that they are running.
fn run(ranks: usize, probe: &str, fault: Fault) -> Ended {
    let mut child = mpirun(ranks, probe).spawn().unwrap();
    let (out, mut err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let (mut lines, mut errors, mut pids) = (String::new(), String::new(), vec![String::new(); ranks]);
    let mut since = Instant::now();
    let mut running = 0;
    scope(|scope| {
        scope.spawn(|| err.read_to_string(&mut errors));
        for line in BufReader::new(out).lines() {
            let line = line.unwrap();
            if let [_, rank, pid] = *line.split(' ').collect::<Vec<_>>()
                && line.starts_with("pid ")
            {
                pid.clone_into(&mut pids[rank.parse::<usize>().unwrap()]);
            }
            running += usize::from(line == "running");
            if running == ranks && line == "running" {
                since = Instant::now();
                fault.happen(&pids[1]);
            }
            lines += &line;
            lines += "\n";
        }
    });
    let code = child.wait().unwrap().code();
    Ended { code, out: lines, err: errors, pids, took: since.elapsed() }
}

fn lines<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    text.lines().filter(|line| line.starts_with(start)).collect()
}

fn sums_have_the_bits_of_threads_at_any_size() {
    for ranks in RANKS {
        let ended = run(ranks, "sums", Fault::Nothing);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        for shards in [SHARDS, 2 * SHARDS] {
            let outcomes =
                threads::run(ranks, DEADLINE, |world| step(world, &gradients(shards, VALUES), VALUES, BLOCK));
            let expected = format!("hash {shards} {:016x}", outcomes[0].as_ref().unwrap().hash());
            let found = lines(&ended.out, &format!("hash {shards} "));
            assert!(found.len() == ranks && found.iter().all(|line| *line == expected), "{expected}: {found:?}");
        }
        let cores = std::thread::available_parallelism().unwrap().get();
        // Two machines each have their share of the ranks, and all cores of this one.
        let machines = if env::var(CUT).is_ok() { 2 } else { 1 };
        let share = format!("threads {}", (cores / ranks.div_ceil(machines)).max(1));
        assert_eq!(lines(&ended.out, "threads "), vec![share.as_str(); ranks], "{}", ended.err);
    }
}

fn long_messages_arrive_whole() {
    let ended = run(2, "long", Fault::Nothing);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
}

fn a_waiting_rank_hardly_uses_its_core() {
    let ended = run(2, "slow", Fault::Nothing);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let waited = lines(&ended.out, "waited 0 ");
    let figures: Vec<f64> = waited[0].split(' ').skip(2).map(|figure| figure.parse().unwrap()).collect();
    assert!(figures[0] >= 3.0 * DEADLINE.as_secs_f64(), "{waited:?}");
    assert!(figures[1] <= 0.03 * figures[0] + 0.02, "{waited:?}");
}

fn ends_with(ended: &Ended, limit: Duration) {
    assert_eq!(ended.code, Some(EXIT_MISSING_RANK), "{}{}", ended.out, ended.err);
    no_rank_is_left(ended, limit);
}

fn no_rank_is_left(ended: &Ended, limit: Duration) {
    assert!(ended.took <= limit, "{:?}", ended.took);
    // mpirun may be a moment ahead of the ranks' own end.
    let alive = |pid: &String| {
        let state = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
        state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
    };
    let since = Instant::now();
    while ended.pids.iter().any(alive) {
        assert!(since.elapsed() < Duration::from_secs(1), "orphans: {:?}", ended.pids);
        sleep(Duration::from_millis(20));
    }
}

fn fault(ranks: usize, fault: Fault) {
    let ended = run(ranks, "steps", fault);
    // A dead rank of another machine: all ranks have left when the grace ends, and mpirun waits for its daemon there.
    let daemons =
        if fault != Fault::LinkCut && env::var(CUT).is_ok() { Duration::from_secs(2) } else { Duration::ZERO };
    ends_with(&ended, DEADLINE + GRACE + daemons);
    println!("{ranks} ranks: the job ended after {:.1} s", ended.took.as_secs_f64());
    let named = lines(&ended.err, "error: rank 1 is silent for 2.0 s, expected \"step 1: ");
    assert!(!named.is_empty(), "{}", ended.err);
}

fn a_dead_rank_ends_the_job() {
    for ranks in [2, 4] {
        fault(ranks, Fault::Signal("-KILL"));
    }
}

fn a_stopped_rank_ends_the_job() {
    for ranks in [2, 4] {
        fault(ranks, Fault::Signal("-STOP"));
    }
}

fn a_rank_whose_supervisor_is_killed_dies_with_it() {
    let ended = run(2, "steps", Fault::SupervisorKilled);
    // mpirun sees a killed process of its own: its exit code is that signal's.
    assert!([Some(137), Some(EXIT_MISSING_RANK)].contains(&ended.code), "{:?}", ended.code);
    no_rank_is_left(&ended, DEADLINE + GRACE);
}

fn a_cut_link_ends_the_job() {
    if env::var(CUT).is_err() {
        println!("SKIPPED: no second machine whose link could be cut; see scripts/mpi-namespaces");
        return;
    }
    fault(2, Fault::LinkCut);
}

fn a_rank_that_fails_ends_the_job() {
    let ended = run(2, "fails", Fault::Nothing);
    ends_with(&ended, DEADLINE + GRACE + Duration::from_secs(2));
    assert!(ended.out.contains("error: root is 99, expected below 2"), "{}", ended.out);
}

fn ranks_that_were_started_differently_are_refused() {
    let ended = run(4, "differs", Fault::Nothing);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    let expected = r#"error: settings of rank 1 is "1", expected "0" as on rank 0 (and 2 more)"#;
    assert_eq!(lines(&ended.out, "error: "), [expected; 4]);
}

fn a_silent_singleton_is_refused() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.envs([(PROBE, "sums"), ("PMI_SIZE", "2")]);
    command.envs([("OMPI_ALLOW_RUN_AS_ROOT", "1"), ("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")]);
    let ended = command.output().unwrap();
    let error = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(error.contains("the world has 1 process, expected 2 as PMI_SIZE says"), "{error}");
    assert_eq!(ended.status.code(), Some(2), "{error}");
}
