//! Which system calls a program of a strict sandbox may make: all but those that namespaces do not confine, that make new
//! ones, or that programs under test have no use for and the kernel has had its troubles with.

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_JSET, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS, c_long, sock_filter,
};

/// Instructions of the kernel's packet filter on `struct seccomp_data`.
pub(super) type Filter = Vec<sock_filter>;

/// The architecture's number in `linux/audit.h`.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_003E);
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00B7);
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: Option<u32> = Some(0xC000_00F3);
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
const ARCHITECTURE: Option<u32> = None;

/// Places in `struct seccomp_data`: the call's number, the architecture, and the lower half of an argument.
const NUMBER: u32 = 0;
const MACHINE: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

/// Calls that fail as if the kernel did not have them.
const ABSENT: [c_long; 32] = [
    // Namespaces and mounts. `clone3` hides its flags from filters, and libraries then use `clone`.
    libc::SYS_clone3,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    // Keys belong to users, not to namespaces.
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // These make system calls that no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Other processes' memory.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    // The kernel's own business.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_open_by_handle_at,
    libc::SYS_quotactl,
];

/// Families of sockets that a network namespace confines. Others, such as those between virtual machines, it does not.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The filter, on an architecture whose calls are known.
pub(super) fn filter() -> Option<Filter> {
    let architecture = ARCHITECTURE?;
    let fail = |number: i32| give(SECCOMP_RET_ERRNO | number as u32);
    let allow = || give(SECCOMP_RET_ALLOW);
    // Another architecture's numbers mean other calls.
    let mut filter = vec![load(MACHINE), jump(BPF_JEQ, architecture, 1, 0), give(SECCOMP_RET_KILL_PROCESS)];
    filter.push(load(NUMBER));
    // Numbers of the x32 calls, which are others.
    #[cfg(target_arch = "x86_64")]
    filter.extend([jump(BPF_JSET, 0x4000_0000, 0, 1), fail(libc::ENOSYS)]);
    for call in ABSENT {
        filter.extend([jump(BPF_JEQ, call as u32, 0, 1), fail(libc::ENOSYS)]);
    }
    // User namespaces, and with them every privilege within.
    let flags = [load(argument(0)), jump(BPF_JSET, libc::CLONE_NEWUSER as u32, 0, 1), fail(libc::EPERM), allow()];
    when(&mut filter, libc::SYS_clone, &flags);
    // The limits of the process that watches.
    let process = [load(argument(0)), jump(BPF_JEQ, 1, 0, 1), fail(libc::EPERM), allow()];
    when(&mut filter, libc::SYS_prlimit64, &process);
    let mut family = vec![load(argument(0))];
    for known in FAMILIES {
        family.extend([jump(BPF_JEQ, known as u32, 0, 1), allow()]);
    }
    family.push(fail(libc::EAFNOSUPPORT));
    when(&mut filter, libc::SYS_socket, &family);
    filter.push(allow());
    Some(filter)
}

/// Adds what is done for one call; it must end in an answer.
fn when(filter: &mut Filter, call: c_long, body: &[sock_filter]) {
    filter.push(jump(BPF_JEQ, call as u32, 0, body.len() as u8));
    filter.extend_from_slice(body);
}

fn load(place: u32) -> sock_filter {
    instruction(BPF_LD | BPF_W | BPF_ABS, place, 0, 0)
}

fn give(answer: u32) -> sock_filter {
    instruction(BPF_RET | BPF_K, answer, 0, 0)
}

/// Skips `holds` instructions when the comparison holds, and `otherwise` when it does not.
fn jump(comparison: u32, value: u32, holds: u8, otherwise: u8) -> sock_filter {
    instruction(BPF_JMP | comparison | BPF_K, value, holds, otherwise)
}

fn instruction(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
