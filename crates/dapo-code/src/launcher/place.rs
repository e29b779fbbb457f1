//! The folders that a program works in.

use std::ffi::CString;
use std::fs::{self, DirBuilder, Permissions};
use std::io::Result;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

use crate::wire::{STRICT_HOME, STRICT_TEMP};

/// Flags of the folders of a strict sandbox.
fn flags() -> MountFlags {
    MountFlags::NOSUID | MountFlags::NODEV
}

/// The folder of the program and that for temporary files.
pub(super) enum Place {
    /// File systems in memory, of this many MiB each.
    Mounts {
        mib: u64,
        /// Whether the program's folder can be written in.
        is_open: bool,
    },
    /// Folders of this machine; only the one for temporary files is needed here.
    Folders { temp: PathBuf },
}

impl Place {
    /// Makes the mounts in a root of the sandbox's own.
    pub(super) fn mounts(mib: u64) -> Result<Self> {
        mount_folder(STRICT_HOME, mib)?;
        mount_folder(STRICT_TEMP, mib)?;
        Ok(Self::Mounts { mib, is_open: true })
    }

    /// Makes the folders.
    pub(super) fn folders(home: &Path, temp: &Path) -> Result<Self> {
        make_open_folder(home)?;
        make_open_folder(temp)?;
        Ok(Self::Folders { temp: temp.to_owned() })
    }

    /// Empties the folder for temporary files, and opens or closes that of the program to writing.
    pub(super) fn begin_step(&mut self, builds: bool) -> Result<()> {
        match self {
            Self::Mounts { mib, is_open } => {
                if *is_open != builds {
                    let access = if builds { MountFlags::empty() } else { MountFlags::RDONLY };
                    mount_remount(STRICT_HOME, MountFlags::BIND | flags() | access, c"")?;
                    *is_open = builds;
                }
                unmount(STRICT_TEMP, UnmountFlags::DETACH)?;
                mount_folder(STRICT_TEMP, *mib)
            }
            Self::Folders { temp } => {
                // A program can leave folders that only it could empty: what is left does no harm.
                let _ = fs::remove_dir_all(&*temp);
                if temp.exists() { Ok(()) } else { make_open_folder(temp) }
            }
        }
    }

    /// Removes what a host that is gone cannot remove any more.
    pub(super) fn remove(&self) {
        if let Self::Folders { temp } = self {
            // The folder of both was made for this sandbox alone.
            let _ = temp.parent().map(fs::remove_dir_all);
        }
    }
}

fn mount_folder(path: &str, mib: u64) -> Result<()> {
    let options = CString::new(format!("size={mib}m,nr_inodes=16384,mode=0777")).unwrap_or_default();
    Ok(mount("tmpfs", path, "tmpfs", flags(), options.as_c_str())?)
}

/// Makes a folder that every user may write in, whatever the mask for new files says.
fn make_open_folder(path: &Path) -> Result<()> {
    DirBuilder::new().recursive(true).mode(0o777).create(path)?;
    fs::set_permissions(path, Permissions::from_mode(0o777))
}

/// Writes texts into a folder, at paths within it.
pub(super) fn write_files(home: &Path, files: &[(String, String)]) -> Result<()> {
    for (name, text) in files {
        let path = home.join(name);
        let mut folder = home.to_owned();
        for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
            folder.push(part);
            if !folder.exists() {
                make_open_folder(&folder)?;
            }
        }
        fs::write(&path, text)?;
        fs::set_permissions(&path, Permissions::from_mode(0o644))?;
    }
    Ok(())
}
