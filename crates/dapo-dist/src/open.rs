//! The world that a process was started in.

use crate::{
    error::DistError,
    launch::{Launch, launched},
    options::Options,
    solo::Solo,
    world::World,
};

/// The world that the environment tells of: [`Solo`] unless a launcher has started several processes.
///
/// # Errors
///
/// [`DistError::Singleton`] if a launcher started several processes which do not know each other: the program lacks the
/// feature `mpi`, or its MPI does not understand the launcher. Each would work alone, and they would overwrite each
/// other's files. [`DistError::Mpi`] if MPI cannot be started.
pub fn open(options: Options) -> Result<Box<dyn World>, DistError> {
    let launch = launched(|name| std::env::var(name).ok());
    match launch {
        Some(launch) if launch.size > 1 => several(&launch, options),
        _ => Ok(Box::new(Solo)),
    }
}

/// What MPI calls itself and its version; `None` without the feature `mpi`.
pub fn mpi_version() -> Option<String> {
    #[cfg(feature = "mpi")]
    return Some(crate::mpi::version());
    #[cfg(not(feature = "mpi"))]
    None
}

#[cfg(feature = "mpi")]
fn several(launch: &Launch, options: Options) -> Result<Box<dyn World>, DistError> {
    let world = crate::mpi::start(options)?;
    if let Err(error) = launch.check(world.size()) {
        world.finish()?;
        return Err(error);
    }
    Ok(world)
}

#[cfg(not(feature = "mpi"))]
fn several(launch: &Launch, _options: Options) -> Result<Box<dyn World>, DistError> {
    Err(launch.without_mpi())
}
