//! The server of a page, asked over its socket.

#![allow(clippy::unwrap_used)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use dapo_report::{ReportError, Watch};
use flate2::read::ZlibDecoder;
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn run(dir: &Path) -> PathBuf {
    let folder = dir.join("mine");
    fs::create_dir_all(folder.join("completions")).unwrap();
    fs::write(folder.join("metrics.jsonl"), "{\"step\":1,\"reward\":0.5}\n").unwrap();
    fs::write(folder.join("completions/step-1.jsonl"), "{\"completion\":\"one\"}\n{\"completion\":\"two\"}\n").unwrap();
    folder
}

fn append(file: &Path, text: &str) {
    OpenOptions::new().append(true).open(file).unwrap().write_all(text.as_bytes()).unwrap();
}

/// The status and the body of an answer to bytes.
fn ask_raw(watch: &Watch, request: &[u8]) -> (String, String) {
    let address = watch.address();
    let place = address.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut stream = TcpStream::connect(place).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    for header in ["Cache-Control: no-store", "X-Frame-Options: DENY", "Cross-Origin-Resource-Policy: same-origin"] {
        assert!(head.contains(header), "{head}");
    }
    (head.split_once(' ').unwrap().1[..3].to_owned(), body.to_owned())
}

fn ask(watch: &Watch, path: &str) -> (String, String) {
    let host = watch.address().replace("http://", "").replace('/', "");
    ask_raw(watch, format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes())
}

fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("id=\"data\">").unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

/// Serves for as long as `body` runs.
fn served(folder: &Path, body: impl FnOnce(&Watch)) {
    let watch = Watch::bind(&[folder.to_owned()], 0).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let server = scope.spawn(|| watch.serve(&stop));
        // Whatever becomes of it, the server ends.
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&watch)));
        stop.store(true, Ordering::SeqCst);
        server.join().unwrap().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
    });
}

#[test]
fn the_page_follows_a_run_whose_files_grow_and_shrink() {
    let dir = TempDir::new().unwrap();
    let folder = run(dir.path());
    served(&folder, |watch| {
        let (status, page) = ask(watch, "/");
        assert_eq!(status, "200");
        assert!(page.contains("connect-src 'self'") && !page.contains("id=\"block-"));
        let found = &data(&page)["runs"][0];
        assert_eq!(found["metrics"]["reward"], serde_json::json!([0.5]));
        assert_eq!(found["blocks"], serde_json::json!([{ "step": 1, "shown": 2, "total": 2 }]));
        let (_, version) = ask(watch, "/version");
        assert!(page.contains(&format!("data-version=\"{version}\"")));
        assert_eq!(ask(watch, "/version").1, version, "nothing has changed");

        // A step more, whose line is still being written.
        append(&folder.join("metrics.jsonl"), "{\"step\":2,\"rew");
        let (_, torn) = ask(watch, "/version");
        assert_ne!(torn, version);
        let found = data(&ask(watch, "/").1);
        assert_eq!(found["runs"][0]["steps"], serde_json::json!([1]));
        assert!(found["runs"][0]["warnings"].to_string().contains("the last line is torn"));
        append(&folder.join("metrics.jsonl"), "ard\":1}\n");
        fs::write(folder.join("completions/step-2.jsonl"), "{\"completion\":\"three\"}\nnone\n").unwrap();
        let found = data(&ask(watch, "/").1);
        assert_eq!(found["runs"][0]["steps"], serde_json::json!([1, 2]));
        assert_eq!(found["runs"][0]["blocks"][1], serde_json::json!({ "step": 2, "shown": 1, "total": 1 }));
        let warnings = found["runs"][0]["warnings"].to_string();
        assert!(warnings.contains("completions/step-2.jsonl: damaged and left out: line 2"), "{warnings}");

        // Taken back to its first step, as by resuming from there.
        fs::write(folder.join("metrics.jsonl"), "{\"step\":1,\"reward\":0.25}\n").unwrap();
        fs::remove_file(folder.join("completions/step-2.jsonl")).unwrap();
        let found = data(&ask(watch, "/").1);
        assert_eq!(found["runs"][0]["metrics"]["reward"], serde_json::json!([0.25]));
        assert_eq!(found["runs"][0]["blocks"].as_array().unwrap().len(), 1);
        // And gone: the server stays, and says so.
        fs::remove_dir_all(&folder).unwrap();
        let (status, why) = ask(watch, "/");
        assert!(status == "500" && why.contains("expected a run folder"), "{status} {why}");
    });
}

#[test]
fn completions_are_given_step_by_step() {
    let dir = TempDir::new().unwrap();
    served(&run(dir.path()), |watch| {
        let (status, block) = ask(watch, "/block/0/1");
        assert_eq!(status, "200");
        let mut text = String::new();
        ZlibDecoder::new(&STANDARD.decode(block).unwrap()[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, r#"[[1,{"completion":"one"}],[2,{"completion":"two"}]]"#);
        for path in ["/block/0/2", "/block/1/1", "/block/0/x", "/block/0/../../x", "/metrics.jsonl", "/../x", "//"] {
            assert_eq!(ask(watch, path).0, "404", "{path}");
        }
    });
}

#[test]
fn other_hosts_and_methods_are_refused() {
    let dir = TempDir::new().unwrap();
    served(&run(dir.path()), |watch| {
        let port = watch.address().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
        for host in ["evil.example", "127.0.0.1", "127.0.0.1.evil.example"] {
            for path in ["/", "/version", "/block/0/1"] {
                let request = format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n");
                let expected = if host == "127.0.0.1" { "200" } else { "403" };
                assert_eq!(ask_raw(watch, request.as_bytes()).0, expected, "{host} {path}");
            }
        }
        let request = format!("POST / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        assert_eq!(ask_raw(watch, request.as_bytes()).0, "405");
        assert_eq!(ask_raw(watch, b"nonsense\r\n\r\n").0, "400");
        assert_eq!(
            ask_raw(watch, &[b"GET / HTTP/1.1\r\n".as_slice(), &vec![b'x'; 20_000], b"\r\n\r\n"].concat()).0,
            "431"
        );
        let head = ask_raw(watch, format!("HEAD / HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n").as_bytes());
        assert_eq!(head, ("200".to_owned(), String::new()));
    });
}

#[test]
fn a_server_ends_when_it_is_asked_to() {
    let dir = TempDir::new().unwrap();
    let folder = run(dir.path());
    let start = Instant::now();
    served(&folder, |_| {});
    assert!(start.elapsed() < Duration::from_secs(5));
    let taken = Watch::bind(std::slice::from_ref(&folder), 0).unwrap();
    let port = taken.address().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap();
    let error = Watch::bind(&[folder], port).unwrap_err();
    assert!(matches!(error, ReportError::Port { .. }) && error.to_string().starts_with(&format!("port {port} of")));
    let error = Watch::bind(&[dir.path().join("none")], 0).unwrap_err();
    assert!(matches!(error, ReportError::Folder { .. }));
}
