//! The system calls that have no safe wrapper.
#![expect(unsafe_code, reason = "raw system calls, and a closure that runs between fork and exec")]

use std::ffi::CStr;
use std::io::{Error, Result};
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{sock_filter, sock_fprog};

/// `struct clone_args` of the kernel's first version.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Forks into new namespaces: `None` in the child, the child's id in the parent. Only for processes with one thread.
pub(super) fn fork_into(namespaces: i32) -> Result<Option<i32>> {
    let args = CloneArgs {
        flags: u64::from(namespaces.cast_unsigned()),
        exit_signal: libc::SIGCHLD as u64,
        ..Default::default()
    };
    // SAFETY: `args` is a valid structure of the size given. Without CLONE_VM and without a stack the call is a fork: the
    // child has a copy of all memory and goes on with the same stack. The process has one thread, so no lock is held.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    match pid {
        -1 => Err(Error::last_os_error()),
        0 => Ok(None),
        pid => Ok(Some(pid as i32)),
    }
}

/// `struct mount_attr` of the kernel's first version.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

pub(super) const READ_ONLY: u64 = 0x1;
pub(super) const NO_SET_ID: u64 = 0x2;
pub(super) const NO_DEVICES: u64 = 0x4;

/// Adds attributes to the mount at a path and to all below it.
pub(super) fn add_mount_attributes(path: &CStr, set: u64) -> Result<()> {
    const RECURSIVE: libc::c_uint = 0x8000;
    let attributes = MountAttr { set, clear: 0, propagation: 0, user_namespace: 0 };
    // SAFETY: the path ends in NUL, and `attributes` is a valid structure of the size given; both outlive the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            RECURSIVE,
            &raw const attributes,
            size_of::<MountAttr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Closes all file descriptors from `first` on. Only at a process's start, when nothing owns one of them.
pub(super) fn close_from(first: u32) -> Result<()> {
    // SAFETY: the call takes numbers alone. Nothing of this process owns a descriptor in the range, as the caller says.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0_u32) };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Whether the kernel has filters whose answers are those that a program's has.
pub(super) fn can_filter() -> Result<()> {
    let answer = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the kernel reads one number, which outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const answer) };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Puts a filter on the system calls of this process and all that come from it. It must have given up new privileges.
pub(super) fn install(filter: &[sock_filter]) -> Result<()> {
    let program = sock_fprog { len: filter.len() as u16, filter: filter.as_ptr().cast_mut() };
    // SAFETY: `program` points to as many instructions as it says, which outlive the call; the kernel copies and checks
    // them, and writes to none.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 { Ok(()) } else { Err(Error::last_os_error()) }
}

/// Has the command's child run `prepare` before its program. It may make system calls, and nothing else: no allocation,
/// no lock.
pub(super) fn before_exec(command: &mut Command, prepare: impl FnMut() -> Result<()> + Send + Sync + 'static) {
    // SAFETY: `prepare` is `Privileges::drop`, which makes raw system calls through rustix on values that it owns. The
    // launcher has one thread, so that not even a lock could be held at the fork.
    unsafe { command.pre_exec(prepare) };
}
