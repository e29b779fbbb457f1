//! Who watches a run.

use dapo_trainer::{Activity, Observer};
use std::fmt;

/// Is shown what a run is doing.
#[derive(Default)]
pub(crate) struct Watcher(Option<Box<Observer<'static>>>);

impl Watcher {
    pub(crate) fn new(observer: impl FnMut(Activity) + Send + 'static) -> Self {
        Self(Some(Box::new(observer)))
    }

    pub(crate) fn see(&mut self, activity: Activity) {
        if let Some(observer) = &mut self.0 {
            observer(activity);
        }
    }
}

impl fmt::Debug for Watcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Watcher" } else { "nobody" })
    }
}
