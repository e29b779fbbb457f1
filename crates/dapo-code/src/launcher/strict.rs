//! Namespaces and file system of a strict sandbox.

use std::fs::{self, File};
use std::io::{Error, Read, Result, Write};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change, unmount,
};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, chdir, getegid, geteuid, pivot_root, set_dumpable_behavior,
    set_parent_process_death_signal, waitpid,
};

use crate::launcher::place::Place;
use crate::launcher::privileges::NOBODY;
use crate::launcher::sys::{NO_DEVICES, NO_SET_ID, READ_ONLY, add_mount_attributes, fork_into};
use crate::wire::{STRICT_HOME, STRICT_TEMP, Shown};

/// A layer that is missing, and the system's own words.
pub(super) struct Missing {
    pub(super) layer: String,
    pub(super) reason: String,
}

/// The error of a layer.
pub(super) fn missing(layer: &str) -> impl Fn(Error) -> Missing {
    move |error| Missing { layer: layer.to_owned(), reason: error.to_string() }
}

/// The namespaces, by the names of the layers.
const NAMESPACES: [(&str, i32); 6] = [
    ("user namespace", libc::CLONE_NEWUSER),
    ("mount namespace", libc::CLONE_NEWNS),
    ("process namespace", libc::CLONE_NEWPID),
    ("network namespace", libc::CLONE_NEWNET),
    ("IPC namespace", libc::CLONE_NEWIPC),
    ("host name namespace", libc::CLONE_NEWUTS),
];

/// Which process this is after [`enter`].
pub(super) enum Side {
    /// The one outside, with the id of the one inside.
    Outside(Pid),
    /// The first process inside.
    Inside,
}

/// Forks into new namespaces.
pub(super) fn enter() -> std::result::Result<Side, Missing> {
    let all = NAMESPACES.iter().fold(0, |all, (_, namespace)| all | namespace);
    let sockets = UnixStream::pair().map_err(missing("user namespace"))?;
    match fork_into(all) {
        Ok(Some(child)) => {
            let child = Pid::from_raw(child).ok_or_else(|| missing("user namespace")(Error::other("no process")))?;
            drop(sockets.1);
            map_users(child).and_then(|()| (&sockets.0).write_all(b"go")).map_err(missing("user namespace"))?;
            Ok(Side::Outside(child))
        }
        Ok(None) => {
            drop(sockets.0);
            let mut go = [0; 2];
            (&sockets.1).read_exact(&mut go).map_err(missing("user namespace"))?;
            // Where the outer process is killed, the kernel ends this one, and with it the namespace.
            set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(|error| missing("process namespace")(error.into()))?;
            Ok(Side::Inside)
        }
        Err(error) => Err(culprit(error)),
    }
}

/// The first namespace that cannot be made.
fn culprit(error: Error) -> Missing {
    for (layer, namespace) in NAMESPACES {
        match fork_into(libc::CLONE_NEWUSER | namespace) {
            Ok(None) => std::process::exit(0),
            Ok(Some(child)) => drop(waitpid(Pid::from_raw(child), WaitOptions::empty())),
            Err(error) => return missing(layer)(error),
        }
    }
    missing("set of namespaces")(error)
}

/// Gives the child's user namespace its users: `nobody`, who is this process's user, or with root both.
fn map_users(child: Pid) -> Result<()> {
    let folder = PathBuf::from(format!("/proc/{}", child.as_raw_nonzero()));
    let is_root = geteuid().is_root();
    let map = |own: u32| if is_root { format!("0 0 1\n{NOBODY} {NOBODY} 1\n") } else { format!("{NOBODY} {own} 1\n") };
    if !is_root {
        fs::write(folder.join("setgroups"), "deny")?;
    }
    fs::write(folder.join("uid_map"), map(geteuid().as_raw()))?;
    fs::write(folder.join("gid_map"), map(getegid().as_raw()))
}

/// Folders of the system that are shown.
const SYSTEM: [&str; 9] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];
/// Files of `/etc` that programs need to start.
const SETTINGS: [&str; 6] = [
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/alternatives",
    "/etc/localtime",
    "/etc/ld-musl-x86_64.path",
];
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Replaces the file system by one that has nothing but the system's programs, what is shown besides, and the program's
/// own folders.
pub(super) fn build_root(shown: &[Shown], mib: u64) -> std::result::Result<Place, Missing> {
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: Error| Missing { layer: "mount namespace".to_owned(), reason: format!("{path}: {error}") }
    };
    hang_old_root().map_err(at(Path::new("/")))?;
    for path in SYSTEM.into_iter().chain(SETTINGS).map(Path::new) {
        show_as_is(path).map_err(at(path))?;
    }
    for Shown { source, target } in shown {
        show(source, target).map_err(at(target))?;
    }
    add_mount_attributes(c"/new", NO_DEVICES).map_err(at(Path::new("/")))?;
    for device in DEVICES.map(Path::new) {
        show(device, device).map_err(at(device))?;
    }
    for folder in [STRICT_HOME, STRICT_TEMP, "/proc"] {
        fs::create_dir_all(format!("/new{folder}")).map_err(at(Path::new(folder)))?;
    }
    // Programs start without it too, so a system that keeps it back takes nothing from the sandbox.
    let hidden = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let _ = mount("proc", "/new/proc", "proc", hidden, c"subset=pid");
    add_mount_attributes(c"/new", READ_ONLY | NO_SET_ID).map_err(at(Path::new("/")))?;
    drop_old_root().map_err(at(Path::new("/")))?;
    Place::mounts(mib).map_err(at(Path::new(STRICT_HOME)))
}

/// Makes an empty root with the old one at `/old`, so that nothing in it is hidden by where the new one, `/new`, is made.
fn hang_old_root() -> Result<()> {
    let mount_empty =
        |path| mount("tmpfs", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"size=1m,mode=0755");
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // Any folder that every system has.
    mount_empty("/usr")?;
    fs::create_dir("/usr/old")?;
    fs::create_dir("/usr/new")?;
    pivot_root("/usr", "/usr/old")?;
    chdir("/")?;
    Ok(mount_empty("/new")?)
}

fn drop_old_root() -> Result<()> {
    chdir("/new")?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    Ok(chdir("/")?)
}

/// Makes this process unreadable for the programs that it starts.
pub(super) fn hide() -> std::result::Result<(), Missing> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| missing("process namespace")(error.into()))
}

fn below(root: &str, path: &Path) -> PathBuf {
    Path::new(root).join(path.strip_prefix("/").unwrap_or(path))
}

/// Shows a file or folder of the system where it is; links stay links, and what is not there is left out.
fn show_as_is(path: &Path) -> Result<()> {
    let old = below("/old", path);
    match fs::symlink_metadata(&old) {
        Err(_) => Ok(()),
        Ok(metadata) if metadata.is_symlink() => {
            let target = below("/new", path);
            fs::create_dir_all(target.parent().unwrap_or(&target))?;
            symlink(fs::read_link(&old)?, target)
        }
        Ok(_) => show(path, path),
    }
}

/// Binds a file or folder of the old root into the new one, unless it is shown already.
fn show(source: &Path, target: &Path) -> Result<()> {
    let (source, target) = (below("/old", source), below("/new", target));
    let is_folder = fs::metadata(&source)?.is_dir();
    if !target.exists() {
        fs::create_dir_all(target.parent().unwrap_or(&target))?;
        if is_folder {
            fs::create_dir(&target)?;
        } else {
            File::create(&target)?;
        }
    }
    Ok(mount_bind_recursive(source, target)?)
}
