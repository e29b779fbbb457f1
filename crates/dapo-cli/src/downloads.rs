//! Downloads from the hub, as people see them.

use crate::talk::Talk;
use dapo_console::Meter;
use dapo_run::{Download, watch_downloads};

/// From here on each file that is downloaded has a bar on a terminal, and elsewhere a line.
pub(crate) fn show(talk: Talk) {
    let mut present: Option<(String, Meter)> = None;
    watch_downloads(move |Download { file, done, total }| {
        if present.as_ref().is_none_or(|(name, _)| name != file) {
            // One after the other: the bar before is gone when this one begins.
            present = None;
            if !talk.voice().is_live() {
                talk.note(format_args!("downloading {file}, {}", bytes(total)));
            }
            present = Some((file.to_owned(), Meter::start(talk.voice(), file)));
        }
        if let Some((_, meter)) = &present {
            meter.set(done as f64, total as f64, &format!("{} of {}", bytes(done), bytes(total)));
        }
        if done == total {
            present = None;
            talk.detail(format_args!("{file} is there"));
        }
    });
}

/// A number of bytes in a unit that suits it.
fn bytes(count: u64) -> String {
    match count as f64 {
        count if count < 1e6 => format!("{:.1} kB", count / 1e3),
        count if count < 1e9 => format!("{:.1} MB", count / 1e6),
        count => format!("{:.2} GB", count / 1e9),
    }
}
