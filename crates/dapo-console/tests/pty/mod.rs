//! A terminal for a program under test: a pseudo-terminal whose output an emulator reads.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::num::NonZero;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Rows of the terminal: enough to keep all that is written.
const ROWS: u16 = 400;

/// A program whose stderr is a terminal.
pub struct Terminal {
    child: Child,
    master: File,
    seen: Arc<Mutex<Seen>>,
    reader: Option<JoinHandle<()>>,
}

struct Seen {
    parser: vt100::Parser,
    bytes: Vec<u8>,
}

/// What a program left behind.
pub struct Left {
    pub code: Option<i32>,
    /// The rows of the screen up to the last one with text.
    pub rows: Vec<String>,
    /// Rows that the terminal had to break, because a line was too long.
    pub broken: Vec<String>,
    pub cursor_is_hidden: bool,
    pub cursor_column: u16,
    pub bytes: Vec<u8>,
}

impl Terminal {
    pub fn run(command: &mut Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        resize(&master, columns);
        for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
            command.env_remove(name);
        }
        if !command.get_envs().any(|(name, _)| name == "TERM") {
            command.env("TERM", "xterm-256color");
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(slave).spawn().unwrap();
        // The command has a copy of the terminal's other end, which would keep it open.
        command.stderr(Stdio::null());
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(nonzero(ROWS), nonzero(columns), 0),
            bytes: Vec::new(),
        }));
        let master = File::from(master);
        let (mut from, into) = (master.try_clone().unwrap(), Arc::clone(&seen));
        let reader = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails once the program has gone.
            while let Ok(length @ 1..) = from.read(&mut buffer) {
                let mut seen = into.lock().unwrap();
                seen.parser.process(&buffer[..length]);
                seen.bytes.extend_from_slice(&buffer[..length]);
            }
        });
        Self { child, master, seen, reader: Some(reader) }
    }

    pub fn resize(&self, columns: u16) {
        resize(&self.master, columns);
        self.seen.lock().unwrap().parser.screen_mut().set_size(nonzero(ROWS), nonzero(columns));
    }

    /// What the screen shows now.
    pub fn text(&self) -> String {
        self.seen.lock().unwrap().parser.screen().contents()
    }

    /// Waits until the screen shows something.
    #[track_caller]
    pub fn wait_for(&self, text: &str) {
        let start = Instant::now();
        while !self.text().contains(text) {
            assert!(start.elapsed() < Duration::from_mins(2), "no {text:?} in\n{}", self.text());
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    /// Waits for the end of the program.
    pub fn wait(mut self) -> Left {
        let code = self.child.wait().unwrap().code();
        self.reader.take().unwrap().join().unwrap();
        let seen = self.seen.lock().unwrap();
        let screen = seen.parser.screen();
        let (_, columns) = screen.size();
        let mut rows: Vec<String> = screen.rows(0, columns.get()).map(|row| row.trim_end().to_owned()).collect();
        let broken =
            (0..ROWS).filter(|row| screen.row_wrapped(*row)).map(|row| rows[usize::from(row)].clone()).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        Left {
            code,
            rows,
            broken,
            cursor_is_hidden: screen.hide_cursor(),
            cursor_column: screen.cursor_position().1,
            bytes: seen.bytes.clone(),
        }
    }
}

fn nonzero(size: u16) -> NonZero<u16> {
    NonZero::new(size).unwrap()
}

fn resize(terminal: impl std::os::fd::AsFd, columns: u16) {
    tcsetwinsize(terminal, Winsize { ws_row: ROWS, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
}

impl Left {
    /// Checks that the cursor is shown, at the start of a line.
    #[track_caller]
    pub fn is_restored(&self) {
        assert!(!self.cursor_is_hidden);
        assert_eq!(self.cursor_column, 0, "{:#?}", self.rows);
    }
}
