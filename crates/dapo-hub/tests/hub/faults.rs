//! Files that are not there, not allowed, cut or wrong.

use crate::server::{COMMIT, Reply, Repository, Request, Server, git_sha1, sha256};
use crate::{dataset, hub, silent};
use dapo_hub::HubError;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

const CONTENT: &[u8] = b"0123456789abcdef";
const WHAT: &str = "a.bin of data set org/sums at revision main";

/// One large file, whose content comes from a second server.
fn sums(content: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> (Server, Server) {
    let elsewhere = Server::start(content);
    let mut repository = Repository::new("datasets/org/sums", &[("a.bin", CONTENT)]);
    repository.files[0].elsewhere = Some(elsewhere.address.clone());
    (Server::start(move |request| repository.answer(request)), elsewhere)
}

/// The names of the contents in the cache.
fn blobs(cache: &Path) -> Vec<String> {
    let blobs = fs::read_dir(cache.join("datasets--org--sums/blobs")).unwrap();
    blobs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn never_linked(cache: &Path) -> bool {
    let repo = cache.join("datasets--org--sums");
    !repo.join("snapshots").exists() && !repo.join("refs").exists()
}

#[test]
fn a_cut_connection_is_taken_up_where_it_ended() {
    let (server, elsewhere) = sums(|request| {
        let cut = (request.range.is_none()).then_some(10);
        Reply { cut, ..Reply::part(request, CONTENT) }
    });
    let (_cache, hub) = hub(&server.address);
    let mut seen = Vec::new();
    let file = hub.dataset_file("org/sums", "main", "a.bin", &mut |p| seen.push(p.done)).unwrap();
    assert_eq!(fs::read(file).unwrap(), CONTENT);
    let path = format!("GET /{}?signature=%2F+x", sha256(CONTENT));
    assert_eq!(elsewhere.requests(), [path.clone(), format!("{path} from 10")]);
    assert!(seen.is_sorted() && seen.contains(&0) && seen.contains(&10), "{seen:?}");
    assert_eq!(seen.last(), Some(&16));
}

#[test]
fn a_server_that_knows_no_ranges_sends_all_again() {
    let sent = AtomicUsize::new(0);
    let (server, elsewhere) = sums(move |_| {
        let cut = (sent.fetch_add(1, Ordering::SeqCst) == 0).then_some(10);
        Reply { cut, ..Reply::new(200).body(CONTENT) }
    });
    let (_cache, hub) = hub(&server.address);
    assert_eq!(fs::read(dataset(&hub, "a.bin").unwrap()).unwrap(), CONTENT);
    assert_eq!(elsewhere.requests().len(), 2);
}

#[test]
fn a_part_that_was_not_asked_for_is_not_used() {
    let sent = AtomicUsize::new(0);
    let (server, elsewhere) = sums(move |request| match sent.fetch_add(1, Ordering::SeqCst) {
        0 => Reply { cut: Some(10), ..Reply::part(request, CONTENT) },
        1 => Reply::new(206).with("Content-Range", "bytes 12-15/16").body(&CONTENT[12..]),
        _ => Reply::part(request, CONTENT),
    });
    let (_cache, hub) = hub(&server.address);
    assert_eq!(fs::read(dataset(&hub, "a.bin").unwrap()).unwrap(), CONTENT);
    assert_eq!(elsewhere.requests().len(), 3);
}

#[test]
fn a_connection_that_is_always_cut_is_given_up_and_continued_later() {
    let healthy = std::sync::Arc::new(AtomicUsize::new(0));
    let (server, elsewhere) = {
        let healthy = healthy.clone();
        sums(move |request| {
            let cut = (healthy.load(Ordering::SeqCst) == 0).then_some(3);
            Reply { cut, ..Reply::part(request, CONTENT) }
        })
    };
    let (cache, hub) = hub(&server.address);
    let error = dataset(&hub, "a.bin").unwrap_err();
    assert!(matches!(&error, HubError::Connection { attempts: 3, .. }), "{error}");
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("{WHAT}: no success in 3 attempts: ")) && text.ends_with("after 9 of 16 bytes"),
        "{text}"
    );
    assert_eq!(elsewhere.requests().len(), 3);
    assert_eq!(blobs(cache.path()), [format!("{}.incomplete", sha256(CONTENT))]);
    assert!(never_linked(cache.path()));
    healthy.store(1, Ordering::SeqCst);
    assert_eq!(fs::read(dataset(&hub, "a.bin").unwrap()).unwrap(), CONTENT);
    assert_eq!(elsewhere.requests(), [format!("GET /{}?signature=%2F+x from 9", sha256(CONTENT))]);
    assert_eq!(blobs(cache.path()), [sha256(CONTENT)]);
}

#[test]
fn a_wrong_content_is_removed() {
    let (server, elsewhere) = sums(|request| Reply::part(request, b"0123456789abcdeF"));
    let (cache, hub) = hub(&server.address);
    let error = dataset(&hub, "a.bin").unwrap_err().to_string();
    let (found, expected) = (sha256(b"0123456789abcdeF"), sha256(CONTENT));
    assert_eq!(error, format!("{WHAT}: its SHA-256 is {found}, expected {expected}; the file was removed"));
    assert!(blobs(cache.path()).is_empty() && never_linked(cache.path()));
    assert_eq!(elsewhere.requests().len(), 1);

    let small = Repository::new("datasets/org/sums", &[("a.bin", CONTENT)]);
    let server = Server::start(move |request| {
        let reply = small.answer(request);
        Reply { body: reply.body.to_ascii_uppercase(), ..reply }
    });
    let (cache, hub) = crate::hub(&server.address);
    let error = dataset(&hub, "a.bin").unwrap_err().to_string();
    let (found, expected) = (git_sha1(&CONTENT.to_ascii_uppercase()), git_sha1(CONTENT));
    assert_eq!(error, format!("{WHAT}: its git SHA-1 is {found}, expected {expected}; the file was removed"));
    assert!(blobs(cache.path()).is_empty() && never_linked(cache.path()));
}

#[test]
fn a_wrong_size_is_removed() {
    for (content, found) in [(&CONTENT[..12], "12 bytes"), (b"0123456789abcdefg", "17 bytes")] {
        let (server, elsewhere) = sums(move |request| Reply::part(request, content));
        let (cache, hub) = hub(&server.address);
        let error = dataset(&hub, "a.bin").unwrap_err().to_string();
        assert_eq!(error, format!("{WHAT}: its size is {found}, expected 16 bytes; the file was removed"));
        assert!(blobs(cache.path()).is_empty() && never_linked(cache.path()));
        assert_eq!(elsewhere.requests().len(), 1);
    }
    // Without an announced length, too much is noticed when it comes.
    let chunked = b"11\r\n0123456789abcdefg\r\n0\r\n\r\n";
    let (server, _elsewhere) = sums(|_| Reply::new(200).with("Transfer-Encoding", "chunked").body(*chunked));
    let (cache, hub) = hub(&server.address);
    let error = dataset(&hub, "a.bin").unwrap_err().to_string();
    assert_eq!(error, format!("{WHAT}: its size is 17 bytes, expected 16 bytes; the file was removed"));
    assert!(blobs(cache.path()).is_empty());
}

#[test]
fn what_is_not_there_is_named() {
    let files: &[(&str, &[u8])] = &[("config.json", b"{}"), ("tokenizer.json", b"{}"), ("pytorch_model.bin", b"x")];
    let repository = Repository::new("org/old", files);
    let server = Server::start(move |request| repository.answer(request));
    let (_cache, hub) = hub(&server.address);
    let model = |id: &str, revision: &str| hub.model(id, revision, &mut silent).unwrap_err().to_string();
    assert_eq!(
        model("org/old", "main"),
        "model.safetensors or model.safetensors.index.json of model org/old at revision main: not found (it has \
         config.json, pytorch_model.bin, tokenizer.json)"
    );
    assert_eq!(server.requests().len(), 1);
    assert_eq!(model("org/old", "v9"), "model org/old at revision v9: not found (HTTP 404: Revision not found)");
    assert_eq!(
        model("org/none", "main"),
        "model org/none at revision main: not found (HTTP 404: Repository not found)"
    );
    let data = hub.dataset_file("org/sums", "main", "x.jsonl", &mut silent).unwrap_err().to_string();
    assert_eq!(data, "x.jsonl of data set org/sums at revision main: not found (HTTP 404: Repository not found)");
    let repository = Repository::new("org/half", &[("model.safetensors", b"x"), ("config.json", b"{}")]);
    let server = Server::start(move |request| repository.answer(request));
    let (_cache, hub) = crate::hub(&server.address);
    let error = hub.model("org/half", "main", &mut silent).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tokenizer.json of model org/half at revision main: not found (it has config.json, model.safetensors)"
    );
}

#[test]
fn what_is_not_allowed_says_how_it_may_be() {
    for (status, message) in [(401, "Invalid username or password."), (403, "Access to this repository is restricted.")]
    {
        let server = Server::start(move |_| Reply::new(status).with("X-Error-Message", message));
        let (_cache, hub) = hub(&server.address);
        let error = hub.model("org/gated", "main", &mut silent).unwrap_err();
        assert!(matches!(error, HubError::Denied { .. }));
        let page = format!("{}/org/gated", server.address);
        assert_eq!(
            error.to_string(),
            format!(
                "model org/gated at revision main: access denied (HTTP {status}: {message}); set HF_TOKEN to a token that may \
                 read it, and accept the terms at {page} if it has any"
            )
        );
        assert_eq!(server.requests().len(), 1);
        let error = dataset(&hub, "a.bin").unwrap_err().to_string();
        assert!(error.contains(&format!("{}/datasets/org/sums if", server.address)), "{error}");
    }
}

#[test]
fn a_busy_server_is_asked_again() {
    let repository = Repository::new("datasets/org/sums", &[("a.bin", CONTENT)]);
    let busy = Mutex::new(vec![503, 429, 200, 500]);
    let server = Server::start(move |request| match busy.lock().unwrap().pop() {
        None | Some(200) => repository.answer(request),
        Some(status) => Reply::new(status),
    });
    let (_cache, hub) = hub(&server.address);
    assert_eq!(fs::read(dataset(&hub, "a.bin").unwrap()).unwrap(), CONTENT);
    assert_eq!(server.requests().len(), 5);
    let server = Server::start(|_| Reply::new(503));
    let (_cache, hub) = crate::hub(&server.address);
    let error = dataset(&hub, "a.bin").unwrap_err().to_string();
    assert_eq!(error, format!("{WHAT}: no success in 3 attempts: HTTP 503 Service Unavailable"));
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn no_server_is_an_error_that_names_it() {
    let address = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let (_cache, hub) = hub(&format!("http://{address}"));
    let error = dataset(&hub, "a.bin").unwrap_err().to_string();
    assert!(error.starts_with(&format!("{WHAT}: cannot reach {address} (no network?): ")), "{error}");
}

#[test]
fn redirects_of_the_hub_are_followed_with_the_token() {
    let repository = Repository::new("datasets/org/new", &[("a.bin", CONTENT)]);
    let server = Server::start(move |request| match request.path.strip_prefix("/datasets/org/sums") {
        Some(rest) => Reply::new(307).with("Location", format!("/datasets/org/new{rest}")),
        None => repository.answer(request),
    });
    let (_cache, mut hub) = hub(&server.address);
    hub.token = Some("secret".into());
    assert_eq!(fs::read(dataset(&hub, "a.bin").unwrap()).unwrap(), CONTENT);
    let requests = server.requests();
    assert_eq!(requests[1], "HEAD /datasets/org/new/resolve/main/a.bin as secret");
    assert_eq!(requests[3], format!("GET /datasets/org/new/resolve/{COMMIT}/a.bin as secret"));
    let server = Server::start(|request| Reply::new(302).with("Location", request.path.clone()));
    let (_cache, hub) = crate::hub(&server.address);
    let error = dataset(&hub, "b.bin").unwrap_err().to_string();
    assert_eq!(
        error,
        "b.bin of data set org/sums at revision main: the server sent more than 10 redirects, expected a file"
    );
}

#[test]
fn answers_that_are_not_a_hubs_are_refused() {
    let error = |change: fn(Reply) -> Reply| {
        let repository = Repository::new("datasets/org/sums", &[("a.bin", CONTENT)]);
        let server = Server::start(move |request| change(repository.answer(request)));
        let (cache, hub) = hub(&server.address);
        let error = dataset(&hub, "a.bin").unwrap_err().to_string();
        assert!(!cache.path().join("datasets--org--sums").exists());
        error.strip_prefix(&format!("{WHAT}: the server sent ")).unwrap().to_owned()
    };
    let hashes = "expected a SHA-256 or a git SHA-1 to check the file against";
    assert_eq!(error(|reply| reply.with("ETag", "\"../../x\"")), format!("the ETag \"../../x\", {hashes}"));
    assert_eq!(error(|_| Reply::new(200)), format!("no ETag, {hashes}"));
    assert_eq!(error(|reply| reply.with("X-Repo-Commit", "../x")), "no X-Repo-Commit, expected the revision's commit");
    let unsized_file = |_| Reply::new(302).with("X-Linked-Etag", COMMIT).with("Location", "/elsewhere");
    assert_eq!(error(unsized_file), "the size none, expected a number of bytes");
    assert_eq!(error(|_| Reply::new(418)), "HTTP 418 I'm a teapot, expected the file");

    let error = |listing: &'static str, index: &'static str| {
        let files: &[(&str, &[u8])] =
            &[("config.json", b"{}"), ("tokenizer.json", b"{}"), ("model.safetensors.index.json", index.as_bytes())];
        let repository = Repository::new("org/large", files);
        let server = Server::start(move |request| {
            let listed = request.path.starts_with("/api/") && !listing.is_empty();
            if listed { Reply::new(200).body(listing) } else { repository.answer(request) }
        });
        let (_cache, hub) = hub(&server.address);
        hub.model("org/large", "main", &mut silent).unwrap_err().to_string()
    };
    let what = "model org/large at revision main: the server sent ";
    let page = error("<html>", "{}");
    assert!(
        page.starts_with(&format!("{what}invalid JSON (")) && page.ends_with("expected the list of its files"),
        "{page}"
    );
    let sha = "the commit (sha) \"../x\", expected 40 hexadecimal digits";
    assert_eq!(error("{\"sha\": \"../x\"}", "{}"), format!("{what}{sha}"));
    let siblings = "no list of its files, expected siblings, a list of objects with rfilename";
    let listing = "{\"sha\": \"0123456789abcdef0123456789abcdef01234567\", \"siblings\": [{}]}";
    assert_eq!(error(listing, "{}"), format!("{what}{siblings}"));
    for index in ["[]", "{\"weight_map\": {\"a\": \"../../x\"}}", "{\"weight_map\": {\"a\": 1}}"] {
        let names = "an index without names of shards, expected weight_map, an object of file names";
        assert_eq!(error("", index), format!("model.safetensors.index.json of {what}{names}"));
    }
}
