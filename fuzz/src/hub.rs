//! Targets for what comes from the hub.

use crate::input::{Target, bounded, text};
use dapo_hub::{HubPath, fuzzing};

/// Every target of this file.
pub const TARGETS: &[(&str, Target)] = &[("hub_address", hub_address), ("hub_answer", hub_answer)];

/// An address: what it names can neither leave the cache nor the repository.
pub fn hub_address(data: &[u8]) {
    let is_inner = |name: &str| name.split('/').all(|part| !["", ".", ".."].contains(&part)) && !name.contains('\\');
    match bounded(|| text(data).parse::<HubPath>()) {
        Ok(HubPath::Model { id, revision }) => assert!(is_inner(&id) && is_inner(&revision)),
        Ok(HubPath::DatasetFile { id, revision, path }) => {
            assert!(is_inner(&id) && is_inner(&revision) && is_inner(&path));
        }
        Err(_) => {}
    }
}

/// The list of a repository's files, and an index of shards: a commit is one, and a shard is a file beside the index.
pub fn hub_answer(data: &[u8]) {
    let answer = text(data);
    if let Ok((commit, _)) = bounded(|| fuzzing::listing(&answer)) {
        assert!(commit.len() == 40 && commit.bytes().all(|byte| byte.is_ascii_hexdigit()));
    }
    for shard in bounded(|| fuzzing::shards(&answer)).unwrap_or_default() {
        assert!(!shard.contains(['/', '\\', '\0']) && !["", ".", ".."].contains(&shard.as_str()));
    }
}
