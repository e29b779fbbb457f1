//! A page that follows runs, given by a server on this machine.

use crate::blocks::{Block, Budget, block};
use crate::http::{Answer, Request, receive, send};
use crate::log::{read, rows};
use crate::page::served;
use crate::report_error::ReportError;
use crate::run::{Run, file_name};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

/// Connections that are answered at a time.
const MOST_AT_A_TIME: usize = 32;

/// A server of a page over runs, on 127.0.0.1 alone.
///
/// The page asks every two seconds whether the files of the runs have changed, and loads itself anew where they have; what
/// the reader had chosen stays. Completions are read when their step is shown, all of them.
#[derive(Debug)]
pub struct Watch {
    folders: Vec<PathBuf>,
    listener: TcpListener,
    port: u16,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What is known of completions files, by their paths.
    counted: BTreeMap<PathBuf, Counted>,
    /// The last page and its version.
    page: Option<(String, String)>,
}

/// A completions file as it was when it was read.
#[derive(Clone, Debug)]
struct Counted {
    stamp: Stamp,
    total: usize,
    warnings: Vec<String>,
}

/// What changes when a file does: its size and the time of its last change.
type Stamp = Option<(u64, Option<SystemTime>)>;

impl Watch {
    /// A server of these run folders at a port; 0 takes a free one.
    ///
    /// # Errors
    /// [`ReportError::NoRuns`] without folders, [`ReportError::Folder`] for a folder that holds no run, [`ReportError::Io`]
    /// for a file that cannot be read, [`ReportError::Port`] when the port cannot be had.
    pub fn bind(folders: &[PathBuf], port: u16) -> Result<Self, ReportError> {
        if folders.is_empty() {
            return Err(ReportError::NoRuns);
        }
        for folder in folders {
            Run::read(folder)?;
        }
        let error = |source| ReportError::Port { port, source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(error)?;
        listener.set_nonblocking(true).map_err(error)?;
        let port = listener.local_addr().map_err(error)?.port();
        Ok(Self { folders: folders.to_vec(), listener, port, state: Mutex::default() })
    }

    /// The page's address.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Answers requests until `stop` is set.
    ///
    /// # Errors
    /// [`ReportError::Port`] when no connection can be accepted any more.
    pub fn serve(&self, stop: &AtomicBool) -> Result<(), ReportError> {
        const PAUSE: Duration = Duration::from_millis(50);
        let busy = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            while !stop.load(Ordering::SeqCst) {
                match self.listener.accept() {
                    Ok((stream, _)) if busy.fetch_add(1, Ordering::SeqCst) < MOST_AT_A_TIME => {
                        let busy = &busy;
                        scope.spawn(move || {
                            // Whoever is gone needs no answer.
                            let _ = self.answer(stream);
                            busy.fetch_sub(1, Ordering::SeqCst);
                        });
                    }
                    // Too many: the connection is closed.
                    Ok(_) => {
                        busy.fetch_sub(1, Ordering::SeqCst);
                    }
                    Err(error) if is_passing(&error) => std::thread::sleep(PAUSE),
                    Err(source) => return Err(ReportError::Port { port: self.port, source }),
                }
            }
            Ok(())
        })
    }

    fn answer(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        let (answer, has_body) = match receive(&mut stream, self.port) {
            Ok(Request { path, has_body }) => (self.page_of(&path), has_body),
            Err(Some(answer)) => (answer, true),
            Err(None) => return Ok(()),
        };
        send(&mut stream, &answer, has_body)
    }

    fn page_of(&self, path: &str) -> Answer {
        let block = path.strip_prefix("/block/").and_then(|place| {
            let (run, step) = place.split_once('/')?;
            Some((run.parse::<usize>().ok()?, step.parse::<u64>().ok()?))
        });
        let answer = match (path, block) {
            ("/", _) => self.page().map(Answer::html),
            ("/version", _) => Ok(Answer::text("200 OK", self.version())),
            (_, Some((run, step))) => self.block(run, step),
            _ => Ok(Answer::text("404 Not Found", "there is no such page")),
        };
        answer.unwrap_or_else(|error| Answer::text("500 Internal Server Error", error.to_string()))
    }

    /// The page at the present version of the runs.
    fn page(&self) -> Result<String, ReportError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let version = self.version();
        if let Some((of, page)) = &state.page
            && *of == version
        {
            return Ok(page.clone());
        }
        let mut runs = self.folders.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()?;
        let mut blocks = Vec::new();
        for run in &mut runs {
            let mut of_run = Vec::new();
            for (step, file) in &run.files {
                let Counted { total, warnings, .. } = count(&mut state.counted, *step, file)?;
                run.warnings.extend(warnings);
                of_run.push(Block { step: *step, shown: total, total, data: String::new() });
            }
            blocks.push(of_run);
        }
        let page = served(&self.folders, &runs, &blocks, &version)?;
        state.page = Some((version, page.clone()));
        Ok(page)
    }

    /// All completions of a step, as a page has them.
    fn block(&self, run: usize, step: u64) -> Result<Answer, ReportError> {
        let none = || Ok(Answer::text("404 Not Found", format!("step {step} left no completions")));
        let Some(folder) = self.folders.get(run) else { return none() };
        let file = folder.join(file_name(step));
        let Some(text) = read(&file)? else { return none() };
        let mut budget = Budget { per_step: None, bytes: None, files: 1 };
        let (block, _) = block(&file, &file_name(step), step, &text, &mut budget)?;
        Ok(Answer::text("200 OK", block.data))
    }

    /// A text that changes when a file of the runs does.
    fn version(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for folder in &self.folders {
            let mut files: Vec<_> = [folder.clone(), folder.join(Run::COMPLETIONS)]
                .iter()
                .filter_map(|dir| std::fs::read_dir(dir).ok())
                .flat_map(|entries| entries.filter_map(Result::ok).map(|entry| entry.path()))
                .filter(|path| path.extension().is_some_and(|end| end == "jsonl" || end == "toml"))
                .collect();
            files.sort();
            for file in files {
                hasher.update(format!("{} {:?}\n", file.display(), stamp(&file)).as_bytes());
            }
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// Whether a later attempt to accept a connection may succeed.
fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}

fn stamp(file: &Path) -> Stamp {
    let metadata = std::fs::metadata(file).ok()?;
    Some((metadata.len(), metadata.modified().ok()))
}

/// What a completions file holds; it is read where it has changed.
fn count(counted: &mut BTreeMap<PathBuf, Counted>, step: u64, file: &Path) -> Result<Counted, ReportError> {
    let stamp = stamp(file);
    if let Some(known) = counted.get(file).filter(|known| known.stamp == stamp) {
        return Ok(known.clone());
    }
    let (rows, damaged) = rows(&read(file)?.unwrap_or_default());
    let found = Counted { stamp, total: rows.len(), warnings: damaged.warnings(&file_name(step)) };
    counted.insert(file.to_owned(), found.clone());
    Ok(found)
}
