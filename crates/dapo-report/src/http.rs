//! As much of HTTP/1.1 as a page for one machine needs: requests without a body, answers that close the connection.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 16 << 10;

/// How long a request may take to arrive, and an answer between two portions that are taken.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that can be answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// Whether the answer has a body: GET, not HEAD.
    pub has_body: bool,
    /// Without what follows a question mark.
    pub path: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status code and words.
    pub status: &'static str,
    /// Media type.
    pub kind: &'static str,
    pub body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(status: &'static str, body: impl Into<String>) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", body: body.into().into_bytes() }
    }

    pub(crate) fn html(body: String) -> Self {
        Self { status: "200 OK", kind: "text/html; charset=utf-8", body: body.into_bytes() }
    }
}

/// Reads a request and checks it. A page elsewhere whose name leads to this machine (DNS rebinding) says that name as the
/// host, so only `127.0.0.1` and `localhost` with this port are served.
///
/// # Errors
/// The answer to what cannot be served; `None` where nobody waits for one.
pub(crate) fn receive(stream: &mut TcpStream, port: u16) -> Result<Request, Option<Answer>> {
    let head = read_head(stream)?;
    parse(&head, port).map_err(Some)
}

fn read_head(stream: &mut TcpStream) -> Result<Vec<u8>, Option<Answer>> {
    let deadline = Instant::now() + PATIENCE;
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let left = deadline.saturating_duration_since(Instant::now());
        let is_late = left.is_zero() || stream.set_read_timeout(Some(left)).is_err();
        match stream.read(&mut part) {
            _ if is_late => return Err(None),
            Ok(0) => return Err(None),
            Ok(read) if head.len() + read > LONGEST_HEAD => {
                return Err(Some(Answer::text("431 Request Header Fields Too Large", "the request is too long")));
            }
            Ok(read) => head.extend_from_slice(&part[..read]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Err(None),
        }
    }
    Ok(head)
}

fn parse(head: &[u8], port: u16) -> Result<Request, Answer> {
    let bad = |why: &str| Answer::text("400 Bad Request", why);
    let head = std::str::from_utf8(head).map_err(|_| bad("the request is no text"))?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let (Some(method), Some(target), Some(version), None) = (method, target, version, words.next()) else {
        return Err(bad("the request line is damaged"));
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(bad("the request line is damaged"));
    }
    let mut hosts = lines.filter_map(|line| line.split_once(':')).filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = hosts.next().map(|(_, host)| host.trim());
    let is_ours = |host: &str| match host.rsplit_once(':') {
        Some((name, digits)) => is_local(name) && digits == port.to_string(),
        None => is_local(host) && port == 80,
    };
    if !host.is_some_and(is_ours) || hosts.next().is_some() {
        return Err(Answer::text("403 Forbidden", format!("this page is served at 127.0.0.1:{port} alone")));
    }
    let has_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Err(Answer::text("405 Method Not Allowed", "expected GET or HEAD")),
    };
    let path = target.split('?').next().unwrap_or_default().to_owned();
    Ok(Request { has_body, path })
}

fn is_local(name: &str) -> bool {
    name == "127.0.0.1" || name.eq_ignore_ascii_case("localhost")
}

/// Sends an answer. No other page may read or frame it, and nothing keeps it.
///
/// # Errors
/// When the other side is gone or too slow.
pub(crate) fn send(stream: &mut TcpStream, answer: &Answer, has_body: bool) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let Answer { status, kind, body } = answer;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nX-Frame-Options: DENY\r\nCross-Origin-Resource-Policy: same-origin\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nReferrer-Policy: no-referrer\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if has_body {
        stream.write_all(body)?;
    }
    stream.flush()?;
    // What has not been read would have the system tear the answer.
    stream.shutdown(Shutdown::Write)?;
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    let mut rest = [0; 4096];
    for _ in 0..16 {
        if stream.read(&mut rest)? == 0 {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Request, parse};

    fn status(head: &str) -> &'static str {
        match parse(head.as_bytes(), 8080) {
            Ok(_) => "200",
            Err(answer) => &answer.status[..3],
        }
    }

    #[test]
    fn only_this_machines_own_names_are_served() {
        for host in ["127.0.0.1:8080", "localhost:8080", "LOCALHOST:8080"] {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")), "200", "{host}");
        }
        for host in
            ["evil.example:8080", "127.0.0.1", "127.0.0.1:80", "localhost.evil.example:8080", "127.0.0.1:8080.x", ""]
        {
            assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")), "403", "{host}");
        }
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), "403");
        assert_eq!(status("GET / HTTP/1.1\r\nHost: localhost:8080\r\nHost: evil.example\r\n\r\n"), "403");
    }

    #[test]
    fn damaged_requests_are_refused() {
        for line in ["", "GET", "GET /", "GET http://evil/ HTTP/1.1", "GET / HTTP/1.1 more", "GET / SPDY"] {
            assert_eq!(status(&format!("{line}\r\nHost: localhost:8080\r\n\r\n")), "400", "{line}");
        }
        assert_eq!(status("POST / HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"), "405");
        let found = parse(b"HEAD /a?b=c HTTP/1.0\r\nHost: localhost:8080\r\n\r\n", 8080);
        assert_eq!(found.ok(), Some(Request { has_body: false, path: "/a".to_owned() }));
    }
}
