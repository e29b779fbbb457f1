//! Who watches downloads from the hub.

use std::sync::{Mutex, PoisonError};

/// How far a download is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Download<'a> {
    /// The file's path in its repository.
    pub file: &'a str,
    /// Bytes that are there.
    pub done: u64,
    /// Bytes of the whole file.
    pub total: u64,
}

type Watcher = Box<dyn FnMut(Download<'_>) + Send>;

static WATCHER: Mutex<Option<Watcher>> = Mutex::new(None);

/// Shows `watcher` how far each download from the hub is, for all runs, models and data of this process from here on.
pub fn watch_downloads(watcher: impl FnMut(Download<'_>) + Send + 'static) {
    *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(watcher));
}

/// Shows the watcher a download.
#[cfg(feature = "hub")]
pub(crate) fn report(progress: dapo_hub::Progress<'_>) {
    let dapo_hub::Progress { file, done, total } = progress;
    if let Some(watcher) = &mut *WATCHER.lock().unwrap_or_else(PoisonError::into_inner) {
        watcher(Download { file, done, total });
    }
}
