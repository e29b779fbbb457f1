//! Models and data files from a hub that this test plays.
#![allow(clippy::unwrap_used)]

mod addresses;
mod faults;
#[path = "../../../../fuzz/src/hub.rs"]
#[allow(unreachable_pub, reason = "shared with all fuzz targets")]
mod fuzz_targets;
#[path = "../../../../fuzz/src/input.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with all fuzz targets")]
mod input;
#[path = "../../../../fuzz/src/replay.rs"]
#[allow(unreachable_pub, reason = "shared with all fuzz targets")]
mod replay;
mod server;

use dapo_hub::{Hub, HubError, Network, Progress, Retry};
use dapo_policy::load_checkpoint;
use server::{COMMIT, Reply, Repository, Server, git_sha1, sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A hub without pauses, and its cache.
pub(crate) fn hub(endpoint: &str) -> (tempfile::TempDir, Hub) {
    let dir = tempfile::tempdir().unwrap();
    let mut hub = Hub::new(endpoint, dir.path()).unwrap();
    hub.retry = Retry { attempts: 3, pause: Duration::ZERO };
    (dir, hub)
}

pub(crate) fn silent(_: Progress<'_>) {}

/// A data set file whose path and content are given.
pub(crate) fn dataset(hub: &Hub, path: &str) -> Result<PathBuf, HubError> {
    hub.dataset_file("org/sums", "main", path, &mut silent)
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tiny-qwen3")
}

/// The tiny model on a hub, its weights on a second server.
fn tiny_on_a_hub() -> (Server, Server) {
    let weights = fs::read(tiny().join("model.safetensors")).unwrap();
    let elsewhere = {
        let weights = weights.clone();
        Server::start(move |request| Reply::part(request, &weights))
    };
    let mut repository = Repository::new("org/tiny", &[("README.md", b"a model"), ("model.safetensors", &weights)]);
    repository.files[1].elsewhere = Some(elsewhere.address.clone());
    for name in
        ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]
    {
        let content = fs::read(tiny().join(name)).unwrap();
        repository.files.extend(Repository::new("", &[(name, &content)]).files);
    }
    (Server::start(move |request| repository.answer(request)), elsewhere)
}

#[test]
fn a_model_is_downloaded_once_and_loads() {
    let (server, elsewhere) = tiny_on_a_hub();
    let (cache, mut hub) = hub(&format!("{}/", server.address));
    hub.token = Some("secret".into());
    let mut seen = Vec::new();
    let folder = hub.model("org/tiny", "main", &mut |p| seen.push((p.file.to_owned(), p.done, p.total))).unwrap();
    let checkpoint = load_checkpoint(&folder).unwrap();
    let original = load_checkpoint(&tiny()).unwrap();
    assert_eq!(checkpoint.config, original.config);
    assert!(checkpoint.tokenizer.has_chat_template());
    for (name, tensor) in &original.tensors {
        let values = |tensor: &candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values(&checkpoint.tensors[name]), values(tensor), "{name}");
    }

    // The layout of huggingface_hub.
    let repo = cache.path().join("models--org--tiny");
    assert_eq!(folder, repo.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    let weights = fs::read(tiny().join("model.safetensors")).unwrap();
    assert_eq!(fs::read(repo.join("blobs").join(sha256(&weights))).unwrap(), weights);
    let config = fs::read(tiny().join("config.json")).unwrap();
    assert_eq!(fs::read(repo.join("blobs").join(git_sha1(&config))).unwrap(), config);
    assert!(repo.join(".no_exist").join(COMMIT).join("chat_template.json").exists());
    #[cfg(unix)]
    assert_eq!(fs::read_link(folder.join("config.json")).unwrap(), Path::new("../../blobs").join(git_sha1(&config)));
    let names = |folder: PathBuf| {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let files =
        ["config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    assert_eq!(names(folder.clone()), [&["chat_template.jinja"], &files[..]].concat());
    assert_eq!(names(repo.join("blobs")).len(), 6);

    // The token goes to the hub only, and progress ends with the whole file.
    let requests = server.requests();
    assert_eq!(requests[0], "GET /api/models/org/tiny/revision/main as secret");
    assert!(requests.contains(&format!("HEAD /org/tiny/resolve/{COMMIT}/config.json as secret")));
    assert!(requests.iter().all(|request| request.ends_with(" as secret")), "{requests:?}");
    assert_eq!(elsewhere.requests(), [format!("GET /{}?signature=%2F+x", sha256(&weights))]);
    let size = weights.len() as u64;
    assert_eq!(*seen.last().unwrap(), ("model.safetensors".to_owned(), size, size));
    assert!(seen.iter().any(|(file, done, total)| file == "model.safetensors" && *done == 0 && *total == size));

    // From now on nothing is asked for.
    assert_eq!(hub.model("org/tiny", "main", &mut silent).unwrap(), folder);
    assert_eq!(hub.model("org/tiny", COMMIT, &mut silent).unwrap(), folder);
    hub.network = Network::Offline;
    assert_eq!(hub.model("org/tiny", "main", &mut silent).unwrap(), folder);
    let error = hub.model("org/tiny", "v2", &mut silent).unwrap_err().to_string();
    let at = cache.path().display();
    assert_eq!(error, format!("model org/tiny at revision v2: not in the cache {at}, and the network is switched off"));
    assert_eq!((server.requests().len(), elsewhere.requests().len()), (0, 0));
}

#[test]
fn an_outline_is_a_model_without_its_weights_which_come_later() {
    let (server, elsewhere) = tiny_on_a_hub();
    let (_cache, mut hub) = hub(&server.address);
    let folder = hub.model_outline("org/tiny", "main", &mut silent).unwrap();
    assert!(folder.join("config.json").exists() && folder.join("tokenizer.json").exists());
    assert!(!folder.join("model.safetensors").exists());
    let asked = server.requests();
    assert!(asked.iter().all(|request| !request.contains("safetensors")), "{asked:?}");
    assert_eq!(elsewhere.requests().len(), 0);
    // It is not asked for twice, and is no whole model.
    assert_eq!(hub.model_outline("org/tiny", "main", &mut silent).unwrap(), folder);
    assert_eq!(server.requests().len(), 0);
    hub.network = Network::Offline;
    assert_eq!(hub.model_outline("org/tiny", "main", &mut silent).unwrap(), folder);
    assert!(matches!(hub.model("org/tiny", "main", &mut silent), Err(HubError::Offline { .. })));
    hub.network = Network::Online;
    assert_eq!(hub.model("org/tiny", "main", &mut silent).unwrap(), folder);
    assert!(load_checkpoint(&folder).is_ok());
}

#[test]
fn a_cache_that_lacks_a_file_is_completed() {
    let (server, elsewhere) = tiny_on_a_hub();
    let (cache, hub) = hub(&server.address);
    let folder = hub.model("org/tiny", "main", &mut silent).unwrap();
    server.requests();
    elsewhere.requests();
    // A link whose content is gone, as after a clean-up.
    fs::remove_file(fs::canonicalize(folder.join("tokenizer.json")).unwrap()).unwrap();
    assert_eq!(hub.model("org/tiny", "main", &mut silent).unwrap(), folder);
    let at = format!("/org/tiny/resolve/{COMMIT}/tokenizer.json");
    let expected = ["GET /api/models/org/tiny/revision/main".into(), format!("HEAD {at}"), format!("GET {at}")];
    assert_eq!(server.requests(), expected);
    // What is known to be absent only because it was not asked for, as after huggingface_hub's own download.
    fs::remove_dir_all(cache.path().join("models--org--tiny/.no_exist")).unwrap();
    let mut offline = hub.clone();
    offline.network = Network::Offline;
    assert_eq!(offline.model("org/tiny", "main", &mut silent).unwrap(), folder);
    let mut unreachable = hub.clone();
    unreachable.endpoint = "http://127.0.0.1:9".into();
    let error = unreachable.model("org/tiny", "main", &mut silent).unwrap_err().to_string();
    assert!(error.ends_with("; the cache has what is needed, and HF_HUB_OFFLINE=1 uses it"), "{error}");
    assert_eq!(hub.model("org/tiny", "main", &mut silent).unwrap(), folder);
    assert_eq!(server.requests(), ["GET /api/models/org/tiny/revision/main"]);
    assert_eq!(elsewhere.requests().len(), 0);
}

#[test]
fn shards_are_found_by_their_index() {
    let index = br#"{"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let repository = Repository::new(
        "org/large",
        &[
            ("config.json", b"{}"),
            ("tokenizer.json", b"{}"),
            ("model-1.safetensors", b"one"),
            ("model-2.safetensors", b"two"),
            ("model.safetensors.index.json", index),
        ],
    );
    let server = Server::start(move |request| repository.answer(request));
    let (_cache, hub) = hub(&server.address);
    let folder = hub.model("org/large", "main", &mut silent).unwrap();
    assert_eq!(fs::read(folder.join("model-1.safetensors")).unwrap(), b"one");
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), b"two");
    server.requests();
    assert_eq!(hub.model("org/large", "main", &mut silent).unwrap(), folder);
    assert_eq!(server.requests().len(), 0);
    fs::remove_file(folder.join("model-2.safetensors")).unwrap();
    hub.model("org/large", "main", &mut silent).unwrap();
    assert_eq!(fs::read(folder.join("model-2.safetensors")).unwrap(), b"two");
}

#[test]
fn data_files_come_by_revision_and_path() {
    let mut repository = Repository::new(
        "datasets/org/sums",
        &[("data/train%20%231.jsonl", b"train"), ("test.jsonl", b"test"), ("none", b"")],
    );
    repository.branch = "refs%2Fconvert%2Fparquet".into();
    let server = Server::start(move |request| repository.answer(request));
    let (cache, hub) = hub(&server.address);
    let get = |path: &str| hub.dataset_file("org/sums", "refs/convert/parquet", path, &mut silent);
    let repo = cache.path().join("datasets--org--sums");
    let file = get("data/train #1.jsonl").unwrap();
    assert_eq!(file, repo.join("snapshots").join(COMMIT).join("data/train #1.jsonl"));
    assert_eq!(fs::read(&file).unwrap(), b"train");
    assert_eq!(fs::read_to_string(repo.join("refs/refs/convert/parquet")).unwrap(), COMMIT);
    assert_eq!(server.requests().len(), 2);
    assert_eq!(get("data/train #1.jsonl").unwrap(), file);
    assert_eq!(server.requests().len(), 0);
    assert_eq!(fs::read(get("test.jsonl").unwrap()).unwrap(), b"test");
    assert_eq!(fs::read(get("none").unwrap()).unwrap(), b"");
}

#[test]
fn contents_are_named_by_the_hashes_of_git_and_sha_256() {
    // By `git hash-object` and `sha256sum`.
    assert_eq!(git_sha1(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    assert_eq!(sha256(b"hello\n"), "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03");
    let mut repository = Repository::new("datasets/org/sums", &[("git", b"hello\n"), ("large", b"hello\n")]);
    let elsewhere = Server::start(|request| Reply::part(request, b"hello\n"));
    repository.files[1].elsewhere = Some(elsewhere.address.clone());
    let server = Server::start(move |request| repository.answer(request));
    let (cache, hub) = hub(&server.address);
    for (path, hash) in [
        ("git", "ce013625030ba8dba906f756967f9e9ca394464a"),
        ("large", "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"),
    ] {
        dataset(&hub, path).unwrap();
        assert_eq!(fs::read(cache.path().join("datasets--org--sums/blobs").join(hash)).unwrap(), b"hello\n");
    }
}

#[test]
fn a_content_that_two_ask_for_comes_once() {
    let mut repository = Repository::new("datasets/org/sums", &[("a", b"content")]);
    let elsewhere = Server::start(|request| Reply::part(request, b"content"));
    repository.files[0].elsewhere = Some(elsewhere.address.clone());
    let server = Server::start(move |request| repository.answer(request));
    let (_cache, hub) = hub(&server.address);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(fs::read(dataset(&hub, "a").unwrap()).unwrap(), b"content"));
        }
    });
    assert_eq!(elsewhere.requests().len(), 1);
}

#[test]
fn properties_of_answers_and_addresses_hold_on_the_fuzz_corpora() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let inputs = replay::replay(&fuzz, fuzz_targets::TARGETS, 2000, Duration::from_secs(5));
    assert!(inputs > 1000);
}
