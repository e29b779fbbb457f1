//! What the environment says about the launcher.

use crate::error::DistError;

/// Variables that hold the number of processes, the more specific ones first.
const SIZES: [&str; 3] = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_NTASKS"];
/// Variables that hold the number of processes on this machine.
const LOCAL_SIZES: [&str; 3] = ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_NTASKS_PER_NODE"];

/// How a launcher started this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Launch {
    /// The variable that says so.
    pub variable: &'static str,
    /// Processes that were started.
    pub size: usize,
}

/// What a launcher's variables say; `None` without a launcher. The largest number counts.
pub fn launched(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let number = |name: &&'static str| {
        let size = variable(name)?.trim().parse().ok()?;
        Some(Launch { variable: name, size })
    };
    SIZES.iter().filter_map(number).reduce(|found, next| if next.size > found.size { next } else { found })
}

/// Processes of this job on this machine, at least 1, as a launcher's variables say.
pub fn ranks_here(variable: impl Fn(&str) -> Option<String>) -> usize {
    LOCAL_SIZES.iter().find_map(|name| variable(name)?.trim().parse().ok()).unwrap_or(1).max(1)
}

impl Launch {
    /// Checks that processes which were started together have found each other.
    ///
    /// # Errors
    ///
    /// [`DistError::Singleton`] if this is one of several processes, and its world has only itself.
    pub fn check(&self, world: usize) -> Result<(), DistError> {
        if world > 1 || self.size <= 1 {
            return Ok(());
        }
        let hint = "MPI and launcher do not know each other; use the mpirun of the same MPI, or srun --mpi=pmix, \
                    or unset the variable to run one process";
        Err(DistError::Singleton { variable: self.variable, expected: self.size, hint })
    }

    /// The error of a program without MPI that was started as one of several processes.
    pub fn without_mpi(&self) -> DistError {
        let hint = "this program was built without the feature mpi; build it with --features dapo-cli/mpi, or unset \
                    the variable to run one process";
        DistError::Singleton { variable: self.variable, expected: self.size, hint }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(variables: &'static [(&str, &str)]) -> impl Fn(&str) -> Option<String> {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn silent_singletons_are_refused() {
        assert_eq!(launched(with(&[])), None);
        for variable in SIZES {
            let launch = launched(|name| (name == variable).then(|| "4".to_owned())).unwrap();
            assert_eq!(launch, Launch { variable, size: 4 });
            assert_eq!(launch.check(4), Ok(()));
            let error = launch.check(1).unwrap_err().to_string();
            assert!(error.contains(&format!("has 1 process, expected 4 as {variable} says")), "{error}");
        }
        let error = Launch { variable: "SLURM_NTASKS", size: 4 }.without_mpi().to_string();
        assert!(
            error.ends_with("build it with --features dapo-cli/mpi, or unset the variable to run one process"),
            "{error}"
        );
        // mpirun -n 1 inside a job of four tasks: the four were not started by it, but others may be.
        let launch = launched(with(&[("OMPI_COMM_WORLD_SIZE", "1"), ("SLURM_NTASKS", "4")])).unwrap();
        assert_eq!(launch, Launch { variable: "SLURM_NTASKS", size: 4 });
        assert_eq!(launched(with(&[("PMI_SIZE", "many")])), None);
        assert_eq!(launched(with(&[("PMI_SIZE", "1")])).unwrap().check(1), Ok(()));
    }

    #[test]
    fn processes_of_this_machine_are_counted() {
        assert_eq!(ranks_here(with(&[])), 1);
        assert_eq!(ranks_here(with(&[("OMPI_COMM_WORLD_LOCAL_SIZE", "2"), ("SLURM_NTASKS_PER_NODE", "8")])), 2);
        assert_eq!(ranks_here(with(&[("SLURM_NTASKS_PER_NODE", "0")])), 1);
    }
}
