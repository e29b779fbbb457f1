//! The process that runs commands, watches them, and ends whatever comes from them.

use std::io::{BufRead, BufReader, Error, Result, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio, exit};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create, seek};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, geteuid, kill_process, kill_process_group, pidfd_open, wait,
};

use crate::launcher::filter::Filter;
use crate::launcher::place::Place;
use crate::launcher::privileges::{NOBODY, Privileges};
use crate::launcher::sys::before_exec;
use crate::launcher::tree::Proc;
use crate::wire::{Ask, End, Limits, Outcome, Reply, Step};

/// How often memory and number of processes are looked at.
const WATCH: Duration = Duration::from_millis(20);

/// Runs commands for a host.
pub(super) struct Supervisor {
    pub(super) host: UnixStream,
    pub(super) proc: Proc,
    pub(super) place: Place,
    /// Whether this is the first process of a process namespace.
    pub(super) is_init: bool,
    /// System calls of programs; by default all.
    pub(super) filter: Option<Filter>,
    /// Sandboxes whose processes count as those of one user.
    pub(super) peers: u64,
}

/// Sends an answer to the host.
pub(super) fn answer(host: &UnixStream, reply: &Reply) -> Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    (&mut &*host).write_all(&line)
}

impl Supervisor {
    /// Runs what the host asks for, until it hangs up.
    pub(super) fn serve(mut self, mut asks: BufReader<UnixStream>) -> Result<()> {
        let mut line = String::new();
        while asks.read_line(&mut line)? > 0 {
            if let Ask::Run(step) = serde_json::from_str(&line)? {
                let outcome = self.run(&step);
                answer(&self.host, &Reply::Done(outcome))?;
            }
            line.clear();
        }
        self.place.remove();
        Ok(())
    }

    fn run(&mut self, step: &Step) -> Outcome {
        match self.place.begin_step(step.builds).and_then(|()| self.spawn(step)) {
            Ok(running) => running.watch(self),
            Err(error) => Outcome::without_output(End::NotStarted(error.to_string())),
        }
    }

    fn spawn(&self, step: &Step) -> Result<Running> {
        let [program, arguments @ ..] = step.argv.as_slice() else { return Err(Error::other("no program")) };
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(step.env.iter().cloned()).current_dir(&step.folder);
        command.stdin(input(&step.input)?).stdout(Stdio::piped()).stderr(Stdio::piped());
        let is_nobody = geteuid().is_root();
        let tasks = if self.is_init {
            // The program's user has no processes but those of this sandbox; this one may be among them.
            step.limits.processes + 1
        } else {
            let user = if is_nobody { NOBODY } else { geteuid().as_raw() };
            self.proc.tasks_of(user) + step.limits.processes * self.peers
        };
        let privileges = Privileges { limits: step.limits, tasks, is_nobody, filter: self.filter.clone() };
        before_exec(&mut command, move || privileges.drop());
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let streams = [child.stdout.take().map(OwnedFd::from), child.stderr.take().map(OwnedFd::from)];
        let now = Instant::now();
        Ok(Running {
            pid,
            ended: pidfd_open(pid, PidfdFlags::empty())?,
            pipes: streams.map(|pipe| Pipe { pipe, bytes: Vec::new() }),
            limits: step.limits,
            deadline: now + Duration::from_millis(step.limits.timeout_ms),
            watched: now,
        })
    }

    /// Ends every process that comes from this one.
    fn end_all(&self) {
        if self.is_init {
            // To all processes of the namespace but this one, at once.
            let _ = kill_process_group(Pid::INIT, Signal::KILL);
            while wait(WaitOptions::empty()).is_ok() {}
            return;
        }
        // Orphans become children of this process, so that none is lost however they are nested.
        loop {
            for pid in self.proc.descendants() {
                let _ = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
            }
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            sleep(Duration::from_micros(100));
        }
    }
}

/// A file in memory that holds the text and cannot be changed.
fn input(text: &str) -> Result<OwnedFd> {
    let file = memfd_create("input", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = std::fs::File::from(file);
    file.write_all(text.as_bytes())?;
    seek(&file, SeekFrom::Start(0))?;
    fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file.into())
}

/// What a program writes to one stream.
struct Pipe {
    /// `None` at its end.
    pipe: Option<OwnedFd>,
    bytes: Vec<u8>,
}

impl Pipe {
    /// Reads once; it must not have to wait.
    fn read(&mut self) {
        let mut buffer = [0; 1 << 14];
        let Some(pipe) = &self.pipe else { return };
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => self.bytes.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => self.pipe = None,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// A command that runs.
struct Running {
    pid: Pid,
    /// Readable when the command's own process has ended.
    ended: OwnedFd,
    pipes: [Pipe; 2],
    limits: Limits,
    deadline: Instant,
    /// When memory and processes were last looked at.
    watched: Instant,
}

impl Running {
    /// Waits for the command's end or for a limit, and ends what is left.
    fn watch(mut self, supervisor: &Supervisor) -> Outcome {
        let end = loop {
            let has_ended = self.wait_for_news(supervisor);
            if self.has_too_much() {
                break End::TooMuchOutput;
            }
            // Before the limits: a program that ended in time did so.
            if let Some(end) = self.reap(has_ended) {
                break end;
            }
            if Instant::now() >= self.deadline {
                break End::OutOfTime;
            }
            if let Some(end) = self.excess(&supervisor.proc) {
                break end;
            }
        };
        supervisor.end_all();
        // No one writes any more: what is left in the pipes comes to an end.
        for index in 0..self.pipes.len() {
            while self.pipes[index].pipe.is_some() && !self.has_too_much() {
                self.pipes[index].read();
            }
        }
        let end = if self.has_too_much() { End::TooMuchOutput } else { end };
        let [stdout, stderr] = &self.pipes;
        Outcome { end, stdout: stdout.text(), stderr: stderr.text() }
    }

    /// Whether more was written than may be.
    fn has_too_much(&self) -> bool {
        self.pipes.iter().map(|pipe| pipe.bytes.len() as u64).sum::<u64>() > self.limits.output_kib << 10
    }

    /// Waits until something can be read, the command ends, a limit is near, or the host hangs up; then all ends here.
    fn wait_for_news(&mut self, supervisor: &Supervisor) -> bool {
        let left = self.deadline.saturating_duration_since(Instant::now()).min(WATCH);
        let left = Timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
        let mut polls = vec![
            PollFd::new(&self.ended, PollFlags::IN),
            PollFd::from_borrowed_fd(supervisor.host.as_fd(), PollFlags::RDHUP),
        ];
        let is_open: Vec<bool> = self.pipes.iter().map(|pipe| pipe.pipe.is_some()).collect();
        polls.extend(
            self.pipes.iter().filter_map(|pipe| pipe.pipe.as_ref()).map(|pipe| PollFd::new(pipe, PollFlags::IN)),
        );
        let _ = poll(&mut polls, Some(&left));
        let news: Vec<bool> = polls.iter().map(|poll| !poll.revents().is_empty()).collect();
        drop(polls);
        if news[1] {
            supervisor.end_all();
            supervisor.place.remove();
            exit(0);
        }
        let ready = self.pipes.iter_mut().zip(is_open).filter(|(_, is_open)| *is_open).zip(&news[2..]);
        ready.filter(|(_, has_news)| **has_news).for_each(|((pipe, _), _)| pipe.read());
        news[0]
    }

    /// Takes leave of processes that have ended; how the command's own did, if it is among them.
    fn reap(&self, has_ended: bool) -> Option<End> {
        let mut end = None;
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.pid {
                end = Some(how(status));
            }
        }
        debug_assert!(end.is_some() || !has_ended);
        end
    }

    /// Which limit of all processes together is passed, looked at now and then.
    fn excess(&mut self, proc: &Proc) -> Option<End> {
        if self.watched.elapsed() < WATCH {
            return None;
        }
        self.watched = Instant::now();
        let processes = proc.descendants();
        if processes.len() as u64 > self.limits.processes {
            return Some(End::TooManyProcesses);
        }
        let limit = self.limits.memory_mib << 20;
        (proc.memory(&processes, limit) > limit).then_some(End::TooMuchMemory)
    }
}

fn how(status: WaitStatus) -> End {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Killed(signal.unwrap_or_default()),
    }
}
