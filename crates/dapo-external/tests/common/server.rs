//! A server on a free port with prepared answers, and the requests that it received.
#![allow(dead_code, reason = "each user takes its part")]

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

/// What the server does with a request.
pub(crate) enum Do {
    Reply(u16, String),
    /// Asks to wait this many seconds.
    Later(u64),
    Redirect,
    Stall,
    Close,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// The request's first line and its headers, in lower case.
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }
}

/// A server, for as long as the process lives.
pub(crate) struct Server {
    pub(crate) address: String,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// `answer` gets the request's number, from 0 on, and the request.
    pub(crate) fn of(answer: impl Fn(usize, &Request) -> Do + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (log, answer) = (requests.clone(), Arc::new(answer));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, answer) = (log.clone(), answer.clone());
                // A client that has given up is not there to hear the answer.
                thread::spawn(move || drop(serve(&stream, &log, &*answer)));
            }
        });
        Ok(Self { address, requests })
    }

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    stream: &TcpStream,
    log: &Mutex<Vec<Request>>,
    answer: &dyn Fn(usize, &Request) -> Do,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut head, mut line) = (String::new(), String::new());
    while reader.read_line(&mut line)? > 2 {
        head += &line.to_lowercase();
        line.clear();
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0").trim().parse()?;
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let request = Request { head, body: serde_json::from_slice(&body)? };
    let number = {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(request.clone());
        log.len() - 1
    };
    let respond = |status: u16, header: &str, body: &str| {
        let head =
            format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{header}\r\n", body.len());
        (&*stream).write_all(format!("{head}{body}").as_bytes())
    };
    match answer(number, &request) {
        Do::Reply(status, body) => respond(status, "", &body)?,
        Do::Later(seconds) => respond(429, &format!("retry-after: {seconds}\r\n"), "")?,
        Do::Redirect => respond(307, "location: http://127.0.0.1:9/\r\n", "")?,
        Do::Stall => thread::sleep(Duration::from_secs(20)),
        Do::Close => {}
    }
    Ok(())
}
