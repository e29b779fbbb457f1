//! A hub on this machine: the answers of one repository, with faults on demand.

use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) range: Option<usize>,
    pub(crate) token: Option<String>,
    pub(crate) authorization: Option<String>,
}

#[derive(Clone, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body that are sent before the connection is cut.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.retain(|(other, _)| *other != name);
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// What the request asks for of a content.
    pub(crate) fn part(request: &Request, content: &[u8]) -> Self {
        match request.range {
            Some(from) if from >= content.len() => Self::new(416),
            Some(from) => {
                let range = format!("bytes {from}-{}/{}", content.len() - 1, content.len());
                Self::new(206).with("Content-Range", range).body(&content[from..])
            }
            None => Self::new(200).body(content),
        }
    }
}

/// Answers until the test ends.
pub(crate) struct Server {
    pub(crate) address: String,
    log: Arc<Mutex<Vec<String>>>,
}

impl Server {
    pub(crate) fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (answer, written) = (Arc::new(answer), log.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answer, log) = (answer.clone(), written.clone());
                thread::spawn(move || serve(&stream.unwrap(), &*answer, &log));
            }
        });
        Self { address, log }
    }

    /// The requests since the last call: method and path, range and token where there were any.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

fn serve(mut stream: &TcpStream, answer: &dyn Fn(&Request) -> Reply, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let Some(line) = lines.next() else { return };
    let mut words = line.split(' ').map(str::to_owned);
    let mut request = Request {
        method: words.next().unwrap(),
        path: words.next().unwrap(),
        range: None,
        token: None,
        authorization: None,
    };
    for header in lines.take_while(|line| !line.is_empty()) {
        let (name, value) = header.split_once(": ").unwrap();
        match name.to_ascii_lowercase().as_str() {
            "range" => request.range = value.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().ok(),
            "authorization" => {
                request.token = value.strip_prefix("Bearer ").map(str::to_owned);
                request.authorization = Some(value.to_owned());
            }
            _ => {}
        }
    }
    let range = request.range.map(|from| format!(" from {from}")).unwrap_or_default();
    let token = request.token.as_ref().map(|token| format!(" as {token}")).unwrap_or_default();
    log.lock().unwrap().push(format!("{} {}{range}{token}", request.method, request.path));
    let reply = answer(&request);
    let mut headers = reply.headers.clone();
    if !headers.iter().any(|(name, _)| ["Content-Length", "Transfer-Encoding"].contains(name)) {
        headers.push(("Content-Length", reply.body.len().to_string()));
    }
    let headers: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("HTTP/1.1 {} Said\r\nConnection: close\r\n{}\r\n", reply.status, headers.concat());
    let body = if request.method == "HEAD" { &[][..] } else { &reply.body };
    let sent = &body[..reply.cut.unwrap_or(body.len()).min(body.len())];
    // The client may have hung up.
    let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(sent));
}

#[derive(Clone)]
pub(crate) struct StoredFile {
    pub(crate) path: String,
    pub(crate) content: Vec<u8>,
    /// Where it lies, for a large file: a server that has it as `/HASH`.
    pub(crate) elsewhere: Option<String>,
}

impl StoredFile {
    pub(crate) fn hash(&self) -> String {
        if self.elsewhere.is_some() { sha256(&self.content) } else { git_sha1(&self.content) }
    }
}

pub(crate) fn sha256(content: &[u8]) -> String {
    hexadecimal(&Sha256::digest(content))
}

pub(crate) fn git_sha1(content: &[u8]) -> String {
    hexadecimal(&Sha1::digest([format!("blob {}\0", content.len()).as_bytes(), content].concat()))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// A repository as the hub answers for it.
#[derive(Clone)]
pub(crate) struct Repository {
    /// `ORG/NAME`, or `datasets/ORG/NAME`.
    pub(crate) id: String,
    /// How a branch is written in addresses.
    pub(crate) branch: String,
    pub(crate) files: Vec<StoredFile>,
}

impl Repository {
    pub(crate) fn new(id: &str, files: &[(&str, &[u8])]) -> Self {
        let file = |(path, content): &(&str, &[u8])| StoredFile {
            path: (*path).to_owned(),
            content: content.to_vec(),
            elsewhere: None,
        };
        Self { id: id.into(), branch: "main".into(), files: files.iter().map(file).collect() }
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
        if let Some(rest) = request.path.strip_prefix(&format!("/api/models/{}/revision/", self.id)) {
            let files: Vec<_> = self.files.iter().map(|file| serde_json::json!({"rfilename": file.path})).collect();
            let listing = serde_json::json!({"id": self.id, "sha": COMMIT, "siblings": files});
            return if self.is_revision(rest) {
                Reply::new(200).body(listing.to_string())
            } else {
                not_found("Revision")
            };
        }
        let rest = request.path.strip_prefix(&format!("/{}/resolve/", self.id)).and_then(|rest| rest.split_once('/'));
        let Some((revision, path)) = rest else { return not_found("Repository") };
        if !self.is_revision(revision) {
            return not_found("Revision");
        }
        let Some(file) = self.files.iter().find(|file| file.path == path) else { return not_found("Entry") };
        let hash = file.hash();
        let reply = if let Some(elsewhere) = &file.elsewhere {
            Reply::new(302)
                .with("Location", format!("{elsewhere}/{hash}?signature=%2F+x"))
                .with("X-Linked-Etag", format!("\"{hash}\""))
                .with("X-Linked-Size", file.content.len().to_string())
                .with("ETag", "\"of-the-redirect\"")
                .body("Found. Redirecting")
        } else {
            Reply::part(request, &file.content).with("ETag", format!("W/\"{hash}\""))
        };
        reply.with("X-Repo-Commit", COMMIT)
    }

    fn is_revision(&self, revision: &str) -> bool {
        revision == self.branch || revision == COMMIT
    }
}

fn not_found(what: &str) -> Reply {
    Reply::new(404).with("X-Error-Message", format!("{what} not found"))
}
