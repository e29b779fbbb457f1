//! What a program may not do any more: the last steps before it starts.

use std::io::Result;

use rustix::process::{Resource, Rlimit, setrlimit, setsid};
use rustix::thread::{
    CapabilitySet, CapabilitySets, Gid, Uid, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
    set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use crate::launcher::filter::Filter;
use crate::launcher::sys::install;
use crate::wire::Limits;

/// The user and group `nobody`, who runs the programs of root.
pub(super) const NOBODY: u32 = 65_534;

const MIB: u64 = 1 << 20;

/// Limits of a program, and the user that it becomes.
pub(super) struct Privileges {
    pub(super) limits: Limits,
    /// Most processes and threads of the program's user.
    pub(super) tasks: u64,
    /// Whether the program becomes [`NOBODY`].
    pub(super) is_nobody: bool,
    /// The system calls that it may make; by default all.
    pub(super) filter: Option<Filter>,
}

impl Privileges {
    /// Gives up everything else. Between fork and exec: raw system calls alone.
    pub(super) fn drop(&self) -> Result<()> {
        setsid()?;
        let limit = |resource, value| {
            let limit = Rlimit { current: Some(value), maximum: Some(value) };
            setrlimit(resource, limit)
        };
        limit(Resource::Cpu, self.limits.timeout_ms.div_ceil(1000) + 1)?;
        limit(Resource::Data, self.limits.memory_mib * MIB)?;
        limit(Resource::Fsize, self.limits.file_mib * MIB)?;
        limit(Resource::Nofile, 256)?;
        limit(Resource::Core, 0)?;
        limit(Resource::Memlock, 0)?;
        limit(Resource::Msgqueue, 0)?;
        // As far as this process may: the kernel forgets those that it does not know, and refuses without privileges.
        for bit in 0..64 {
            let _ = remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit));
        }
        if self.is_nobody {
            set_thread_groups(&[])?;
            let (user, group) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_res_gid(group, group, group)?;
            set_thread_res_uid(user, user, user)?;
        }
        let none = CapabilitySet::empty();
        set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
        set_no_new_privs(true)?;
        limit(Resource::Nproc, self.tasks)?;
        self.filter.as_deref().map_or(Ok(()), install)
    }
}
