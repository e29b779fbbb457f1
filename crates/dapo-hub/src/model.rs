//! The files of a model.

use crate::cache::Cache;
use crate::client::{Hub, Network, Progress};
use crate::error::HubError;
use crate::repo::{Kind, Repo, is_commit, is_file_path};
use dapo_files::read_text;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a checkpoint cannot do without, besides its weights.
const REQUIRED: [&str; 2] = ["config.json", "tokenizer.json"];
/// What is read where it exists.
const OPTIONAL: [&str; 4] =
    ["generation_config.json", "tokenizer_config.json", "chat_template.jinja", "chat_template.json"];
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// After the reason why the hub cannot be asked.
const CACHED: &str = "; the cache has what is needed, and HF_HUB_OFFLINE=1 uses it";

/// What of a model is brought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Parts {
    All,
    /// All but the weights.
    Outline,
}

/// A commit and the names of its files.
pub(crate) struct Listing {
    pub(crate) commit: String,
    pub(crate) files: BTreeSet<String>,
}

impl Hub {
    /// A model's checkpoint: `config.json`, the tokenizer, `model.safetensors` or its shards, and where they exist the
    /// generation configuration and the chat template. Returns their folder in the cache, for
    /// `dapo_policy::load_checkpoint`.
    ///
    /// `revision` is a branch, a tag or a commit; `progress` gets how far the download of each file is.
    ///
    /// # Errors
    /// As [`Hub::dataset_file`]; a repository without a required file is an error before anything is downloaded.
    pub fn model(&self, id: &str, revision: &str, progress: &mut dyn FnMut(Progress<'_>)) -> Result<PathBuf, HubError> {
        self.files(id, revision, Parts::All, progress)
    }

    /// As [`model`](Self::model), without the weights: what says how large a model is and how it reads text.
    ///
    /// # Errors
    /// As there.
    pub fn model_outline(
        &self,
        id: &str,
        revision: &str,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        self.files(id, revision, Parts::Outline, progress)
    }

    fn files(
        &self,
        id: &str,
        revision: &str,
        parts: Parts,
        progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let repo = Repo::new(Kind::Model, id, revision)?;
        let cache = Cache::new(&self.cache, &repo);
        let mut usable = false;
        if let Some(commit) = cache.commit(revision)? {
            if is_complete(&repo, &cache, &commit, self.network, parts)? {
                return Ok(cache.snapshot(&commit));
            }
            usable = is_complete(&repo, &cache, &commit, Network::Offline, parts)?;
        }
        self.online(&repo.what(""))?;
        let Listing { commit, files } = self.listing(&repo).map_err(|error| match error {
            HubError::Connection { what, attempts, reason } if usable => {
                HubError::Connection { what, attempts, reason: reason + CACHED }
            }
            HubError::Unreachable { what, host, reason } if usable => {
                HubError::Unreachable { what, host, reason: reason + CACHED }
            }
            error => error,
        })?;
        let weights = weights(|file| files.contains(file));
        let weights = weights.ok_or_else(|| missing(&repo, &format!("{WEIGHTS} or {INDEX}"), &files))?;
        if let Some(file) = REQUIRED.into_iter().find(|file| !files.contains(*file)) {
            return Err(missing(&repo, file, &files));
        }
        let mut bring = |file: &str| {
            let pointer = cache.pointer(&commit, file);
            if pointer.exists() {
                return Ok(pointer);
            }
            let facts = self.facts(&repo, &commit, file)?;
            self.file(&repo, &cache, &facts, file, progress)
        };
        for file in REQUIRED {
            bring(file)?;
        }
        for file in OPTIONAL {
            if files.contains(file) {
                bring(file)?;
            } else {
                cache.set_absent(&commit, file)?;
            }
        }
        if parts == Parts::All {
            let file = bring(weights)?;
            if weights == INDEX {
                for shard in shards(&repo, &file)? {
                    bring(&shard)?;
                }
            }
        }
        cache.set_commit(revision, &commit)?;
        Ok(cache.snapshot(&commit))
    }

    fn listing(&self, repo: &Repo<'_>) -> Result<Listing, HubError> {
        let what = repo.what("");
        let text = self.text(repo, &what, &repo.listing())?;
        Listing::read(&text, &what)
    }
}

impl Listing {
    /// Reads the hub's answer about a repository, which `what` says in words.
    pub(crate) fn read(text: &str, what: &str) -> Result<Self, HubError> {
        let json: Value = serde_json::from_str(text)
            .map_err(|error| HubError::answer(what, format!("invalid JSON ({error})"), "the list of its files"))?;
        let commit = json["sha"].as_str().filter(|commit| is_commit(commit)).ok_or_else(|| {
            HubError::answer(what, format!("the commit (sha) {}", json["sha"]), "40 hexadecimal digits")
        })?;
        let files = json["siblings"].as_array().and_then(|files| {
            files.iter().map(|file| Some(file["rfilename"].as_str()?.to_owned())).collect::<Option<_>>()
        });
        let expected = "siblings, a list of objects with rfilename";
        let files = files.ok_or_else(|| HubError::answer(what, "no list of its files", expected))?;
        Ok(Listing { commit: commit.to_owned(), files })
    }
}

/// Whether the cache has all of a commit that is read. Offline, it need not be known whether optional files exist.
fn is_complete(repo: &Repo<'_>, cache: &Cache, commit: &str, network: Network, parts: Parts) -> Result<bool, HubError> {
    let has = |file: &str| cache.pointer(commit, file).exists();
    let settled = |file: &str| network == Network::Offline || has(file) || cache.lacks(commit, file);
    let shards = match weights(has) {
        Some(INDEX) if parts == Parts::All => shards(repo, &cache.pointer(commit, INDEX))?,
        _ if parts == Parts::Outline => BTreeSet::new(),
        Some(_) => BTreeSet::new(),
        None => return Ok(false),
    };
    Ok(REQUIRED.into_iter().all(has) && OPTIONAL.into_iter().all(settled) && shards.iter().all(|file| has(file)))
}

/// The file by which the weights are found.
fn weights(has: impl Fn(&str) -> bool) -> Option<&'static str> {
    [WEIGHTS, INDEX].into_iter().find(|file| has(file))
}

/// The shards that an index names.
fn shards(repo: &Repo<'_>, index: &Path) -> Result<BTreeSet<String>, HubError> {
    shards_of(&read_text(index).map_err(HubError::io(index))?, &repo.what(INDEX))
}

/// The shards of the text of an index, which `what` says in words.
pub(crate) fn shards_of(text: &str, what: &str) -> Result<BTreeSet<String>, HubError> {
    let json: Option<Value> = serde_json::from_str(text).ok();
    let shards = json.as_ref().and_then(|json| json["weight_map"].as_object()).and_then(|map| {
        let name =
            |name: &Value| Some(name.as_str().filter(|name| is_file_path(name) && !name.contains('/'))?.to_owned());
        map.values().map(name).collect::<Option<_>>()
    });
    shards.ok_or_else(|| {
        HubError::answer(what, "an index without names of shards", "weight_map, an object of file names")
    })
}

fn missing(repo: &Repo<'_>, file: &str, files: &BTreeSet<String>) -> HubError {
    let others: Vec<&str> = files.iter().take(20).map(String::as_str).collect();
    let more = if files.len() > others.len() { ", …" } else { "" };
    HubError::NotFound { what: repo.what(file), reason: format!("it has {}{more}", others.join(", ")) }
}
