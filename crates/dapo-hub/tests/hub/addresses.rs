//! Addresses and names.

use crate::server::{Reply, Repository, Server};
use crate::{dataset, hub, silent};
use dapo_hub::{Hub, HubPath};
use std::fs;
use std::path::Path;

fn model(id: &str, revision: &str) -> HubPath {
    HubPath::Model { id: id.into(), revision: revision.into() }
}

fn file(revision: &str, path: &str) -> HubPath {
    HubPath::DatasetFile { id: "org/name".into(), revision: revision.into(), path: path.into() }
}

#[test]
fn addresses_name_models_and_data_files() {
    let cases = [
        ("org/name", model("org/name", "main")),
        ("org/name@v1.0", model("org/name", "v1.0")),
        ("hf://org/name", model("org/name", "main")),
        ("hf://gpt2@refs/pr/7", model("gpt2", "refs/pr/7")),
        ("hf://datasets/org/name/a.jsonl", file("main", "a.jsonl")),
        ("hf://datasets/org/name@v1/data/a.jsonl", file("v1", "data/a.jsonl")),
        (
            "hf://datasets/org/name@refs/convert/parquet/default/0.parquet",
            file("refs/convert/parquet", "default/0.parquet"),
        ),
        ("hf://datasets/org/name@refs/pr/3/a.jsonl", file("refs/pr/3", "a.jsonl")),
    ];
    for (text, expected) in cases {
        assert_eq!(text.parse::<HubPath>().unwrap(), expected, "{text}");
    }
}

#[test]
fn what_is_no_address_is_an_error() {
    let wrong = [
        "",
        "name",
        "./name",
        "../name",
        "/org/name",
        "org/name/",
        "a/b/c",
        "org/na me",
        "org/name@",
        "org/name@a b",
        "org/..",
        "org/a--b",
        "hf://",
        "hf://a/b/c",
        "hf://datasets/org",
        "hf://datasets/org/name",
        "hf://datasets/org/name@v1",
        "hf://datasets/org/name/",
        "hf://datasets/org/name/../../x",
        "hf://datasets/org/name@/x",
        "hf://spaces/org",
        "datasets/name",
        "models/name",
        "https://huggingface.co/org/name",
    ];
    for text in wrong {
        let error = text.parse::<HubPath>().unwrap_err().to_string();
        let expected = "expected hf://ORG/NAME[@REVISION], ORG/NAME or hf://datasets/ORG/NAME[@REVISION]/PATH";
        assert_eq!(error, format!("the address is {text:?}, {expected}"));
    }
}

#[test]
fn names_cannot_lead_out_of_the_cache() {
    let (_cache, hub) = hub("http://127.0.0.1:9");
    let error = |id: &str, revision: &str, path: &str| {
        hub.dataset_file(id, revision, path, &mut silent).unwrap_err().to_string()
    };
    let repository = "expected ORGANISATION/NAME, of letters, digits, '-', '.' and '_'";
    assert_eq!(error("../x", "main", "a"), format!("the repository is \"../x\", {repository}"));
    assert_eq!(error("a/b/c", "main", "a"), format!("the repository is \"a/b/c\", {repository}"));
    let revision = "expected a branch, a tag or a commit";
    for name in ["..", "a/../b", "/a", "a/", "a b", ""] {
        assert_eq!(error("a/b", name, "a"), format!("the revision is {name:?}, {revision}"));
    }
    for path in ["..", "a/../../b", "/etc/passwd", "a//b", "./a", "a\\b", ""] {
        assert_eq!(
            error("a/b", "main", path),
            format!("the file is {path:?}, expected a path below the root of the repository")
        );
    }
    let error = Hub::new("localhost:80", Path::new("cache")).unwrap_err().to_string();
    assert_eq!(error, "endpoint is \"localhost:80\", expected an address that begins with https:// or http://");
}

#[test]
fn credentials_in_the_address_go_to_the_hub_and_nowhere_else() {
    let repository = Repository::new("datasets/org/sums", &[("a.jsonl", b"{}")]);
    let server = Server::start(move |request| {
        // What `user:secret` is in basic authentication.
        if request.authorization.as_deref() == Some("Basic dXNlcjpzZWNyZXQ=") {
            repository.answer(request)
        } else {
            Reply::new(401).with("X-Error-Message", "Who are you?")
        }
    });
    let with = |pair: &str| server.address.replace("http://", &format!("http://{pair}@"));
    let (cache, found) = hub(&with("user:secret"));
    assert_eq!(found.endpoint, server.address);
    assert!(!format!("{found:?}").contains("secret"), "{found:?}");
    let file = dataset(&found, "a.jsonl").unwrap();
    assert_eq!(fs::read(&file).unwrap(), b"{}");
    let missing = dataset(&found, "b.jsonl").unwrap_err().to_string();
    let denied = dataset(&hub(&with("user:wrong-secret")).1, "a.jsonl").unwrap_err().to_string();
    assert!(denied.contains("access denied (HTTP 401: Who are you?)"), "{denied}");
    let unreachable = dataset(&hub("http://user:secret@127.0.0.1:9").1, "a.jsonl").unwrap_err().to_string();
    assert!(unreachable.contains("cannot reach 127.0.0.1:9 "), "{unreachable}");
    let malformed = Hub::new("ftp://user:secret@host", Path::new("cache")).unwrap_err().to_string();
    let mut assigned = found.clone();
    assigned.endpoint = "http://user:secret@127.0.0.1:9".into();
    let assigned = format!("{assigned:?} {}", dataset(&assigned, "c.jsonl").unwrap_err());
    let redirecting = Server::start(|_| Reply::new(302).with("Location", "http://user:secret@127.0.0.1:9/x"));
    let redirected = dataset(&hub(&redirecting.address).1, "a.jsonl").unwrap_err().to_string();
    for message in [missing, denied, unreachable, malformed, assigned, redirected] {
        assert!(!message.contains("secret"), "{message}");
    }
    let mut folders = vec![cache.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.to_string_lossy().contains("secret"), "{path:?}");
            if path.is_dir() {
                folders.push(path);
            } else {
                assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("secret"), "{path:?}");
            }
        }
    }
}
