//! The processes below the supervising one, and the memory that they use, from `/proc`.

use std::fs::File;
use std::io::{Error, Read, Result};
use std::os::fd::OwnedFd;

use rustix::fs::{Dir, Mode, OFlags, open, openat, readlinkat};

/// This machine's `/proc`, and this process in it.
///
/// A supervisor in a process namespace of its own keeps the folder open that its parent sees, in which it and those below
/// it have other numbers.
pub(super) struct Proc {
    folder: OwnedFd,
    me: i32,
}

impl Proc {
    pub(super) fn open() -> Result<Self> {
        let folder = open("/proc", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let me = readlinkat(&folder, "self", Vec::new())?;
        let me = me.to_str().ok().and_then(|text| text.parse().ok()).ok_or_else(|| Error::other("no /proc/self"))?;
        let proc = Self { folder, me };
        // Some kernels are built without.
        proc.read(&format!("{me}/task/{me}/children"))?;
        Ok(proc)
    }

    fn file(&self, path: &str) -> Result<OwnedFd> {
        Ok(openat(&self.folder, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    fn read(&self, path: &str) -> Result<String> {
        let mut text = String::new();
        File::from(self.file(path)?).read_to_string(&mut text)?;
        Ok(text)
    }

    fn numbers_in(&self, path: &str) -> Vec<i32> {
        let folder = self.file(path).and_then(|folder| Ok(Dir::new(folder)?));
        let names = folder.into_iter().flatten().filter_map(std::result::Result::ok);
        names.filter_map(|entry| entry.file_name().to_str().ok()?.parse().ok()).collect()
    }

    /// All processes that come from this one, parents first. Those that begin or end meanwhile may be missing or too many.
    pub(super) fn descendants(&self) -> Vec<i32> {
        let (mut found, mut next) = (Vec::new(), 0);
        let mut parent = self.me;
        loop {
            for thread in self.numbers_in(&format!("{parent}/task")) {
                let children = self.read(&format!("{parent}/task/{thread}/children")).unwrap_or_default();
                found.extend(children.split_ascii_whitespace().filter_map(|child| child.parse::<i32>().ok()));
            }
            match found.get(next) {
                Some(&child) => (parent, next) = (child, next + 1),
                None => return found,
            }
        }
    }

    /// Bytes that the processes use together: what several share counts once, if that matters.
    pub(super) fn memory(&self, processes: &[i32], limit: u64) -> u64 {
        let page = rustix::param::page_size() as u64;
        let resident = |pid: &i32| {
            let pages = self.read(&format!("{pid}/statm")).ok()?;
            Some(pages.split(' ').nth(1)?.parse::<u64>().ok()? * page)
        };
        let sum: u64 = processes.iter().filter_map(resident).sum();
        if sum <= limit {
            return sum;
        }
        let share = |pid: &i32| {
            let rollup = self.read(&format!("{pid}/smaps_rollup")).ok()?;
            let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
        };
        processes.iter().filter_map(|pid| share(pid).or_else(|| resident(pid))).sum()
    }

    /// Processes and threads of a user.
    pub(super) fn tasks_of(&self, user: u32) -> u64 {
        let is_theirs = |pid: &i32| {
            let stat = self.file(&pid.to_string()).and_then(|folder| Ok(rustix::fs::fstat(folder)?));
            stat.is_ok_and(|stat| stat.st_uid == user)
        };
        let threads = |pid: i32| self.numbers_in(&format!("{pid}/task")).len() as u64;
        self.numbers_in(".").into_iter().filter(is_theirs).map(threads).sum()
    }
}
