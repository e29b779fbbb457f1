//! The hashes by which the hub names contents.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The hash of a file's content, in lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    /// Of the content: large files.
    Sha256(String),
    /// Of the content as git stores it: all others.
    GitSha1(String),
}

impl Digest {
    /// The hash in an ETag.
    pub(super) fn from_etag(etag: &str) -> Option<Self> {
        let hash = etag.strip_prefix("W/").unwrap_or(etag).trim_matches('"').to_ascii_lowercase();
        let hexadecimal = hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        match hash.len() {
            64 if hexadecimal => Some(Self::Sha256(hash)),
            40 if hexadecimal => Some(Self::GitSha1(hash)),
            _ => None,
        }
    }

    pub(super) fn hash(&self) -> &str {
        match self {
            Self::Sha256(hash) | Self::GitSha1(hash) => hash,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "SHA-256",
            Self::GitSha1(_) => "git SHA-1",
        }
    }

    /// The hash of this kind that a file has.
    pub(super) fn of_file(&self, path: &Path) -> io::Result<String> {
        let mut file = dapo_files::open_file(path)?;
        match self {
            Self::Sha256(_) => digest(Sha256::new(), &mut file),
            Self::GitSha1(_) => {
                let header = format!("blob {}\0", file.metadata()?.len());
                digest(Sha1::new_with_prefix(header), &mut file)
            }
        }
    }
}

fn digest<D: sha2::Digest>(mut hasher: D, file: &mut File) -> io::Result<String> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
    }
    Ok(hasher.finalize().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
}
