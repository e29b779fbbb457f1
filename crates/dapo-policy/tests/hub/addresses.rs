//! Addresses and names.

use crate::{hub, silent};
use dapo_policy::hub::{Hub, HubPath};
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
