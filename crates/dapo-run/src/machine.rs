//! What this machine has for a run, and whether it is enough.

use crate::estimate::{CostEstimate, DataSizes, bytes, estimate};
use crate::placement::DeviceChoice;
use crate::run_error::RunError;
use crate::settings::RunConfig;
use dapo_policy::ModelConfig;
use std::path::{Path, PathBuf};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Estimates of large models are within a quarter of what was measured.
const TOLERANCE: f64 = 1.25;

/// Memory and disk space of a machine, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Memory and swap space that the process may use: those of the machine, or of its control group. `None`: unknown.
    pub memory: Option<u64>,
    /// Free space where the run folder will be. `None`: unknown.
    pub disk: Option<u64>,
}

impl Machine {
    /// This machine, for a run in a folder that need not exist yet.
    pub fn here(dir: &Path) -> Self {
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::everything());
        let system = System::new_with_specifics(memory);
        let of_machine = system.total_memory().saturating_add(system.total_swap());
        let limit = system.cgroup_limits().map_or(u64::MAX, |limits| limits.total_memory).max(1);
        let memory = of_machine.min(limit.saturating_add(system.total_swap()));
        Self { memory: (memory > 0).then_some(memory), disk: free_space(dir) }
    }

    /// Whether a run that needs so much can work here. Estimates are upper bounds, so a run is refused only where it is
    /// beyond doubt; what is likely too much is said in the text.
    ///
    /// # Errors
    /// [`RunError::TooLarge`] with what takes the most and the keys that make it smaller.
    pub fn check(&self, estimate: &CostEstimate) -> Result<Option<String>, RunError> {
        let (work, memory) = (&estimate.work, &estimate.memory);
        let host = work.completion_bytes.saturating_add(work.evaluation_bytes);
        let needed = if memory.gpu { host } else { memory.peak() };
        let of_host =
            [("completions of a step", work.completion_bytes), ("evaluated completions", work.evaluation_bytes)];
        let of_cpu = memory.parts.iter().filter(|_| !memory.gpu).map(|part| (part.name, part.bytes));
        let largest = of_host.into_iter().chain(of_cpu).max_by_key(|(_, bytes)| *bytes).unwrap_or_default();
        if let Some(available) = self.memory {
            if needed as f64 > TOLERANCE * available as f64 {
                return Err(too_large("memory", needed, available, largest));
            }
            if needed > available {
                return Ok(Some(format!(
                    "the run may need {} of memory, and this machine has {}: lower {}",
                    bytes(needed),
                    bytes(available),
                    keys_of(largest.0)
                )));
            }
        }
        let disk = &estimate.disk;
        let parts = [("a checkpoint", disk.checkpoint), ("texts of completions", disk.completions)];
        if let Some(available) = self.disk {
            if disk.checkpoint > available {
                return Err(too_large("disk space", disk.total(), available, parts[0]));
            }
            if disk.total() > available {
                let largest = parts.into_iter().max_by_key(|(_, bytes)| *bytes).unwrap_or_default();
                return Ok(Some(format!(
                    "the run folder may grow to {}, and {} are free: lower {}",
                    bytes(disk.total()),
                    bytes(available),
                    keys_of(largest.0)
                )));
            }
        }
        Ok(None)
    }
}

/// Whether a run fits on this machine: `None`, or what it may need too much of.
///
/// # Errors
/// [`RunError::TooLarge`], and a device that is none.
pub fn fits(config: &RunConfig, model: &ModelConfig, dir: &Path) -> Result<Option<String>, RunError> {
    let mut config = config.clone();
    config.model.device = config.model.device.parse::<DeviceChoice>()?.expected().to_string();
    // The shortest prompt: whether longer ones fit shows when they are read.
    let data = DataSizes { problems: None, longest_prompt: Some(1) };
    // The ranks of a job share their machine's memory, and what the job divides.
    let variable = |name: &str| std::env::var(name).ok();
    let (here, ranks) =
        (dapo_dist::ranks_here(variable), dapo_dist::launched(variable).map_or(1, |launch| launch.size.max(1)));
    let machine = Machine::here(dir);
    let machine = Machine { memory: machine.memory.map(|memory| memory / here as u64), ..machine };
    let mut estimate = estimate(&config, model, data);
    estimate.memory = estimate.memory.of_rank(ranks);
    machine.check(&estimate)
}

/// Free space of the file system of a folder, in bytes.
pub(crate) fn free_space(dir: &Path) -> Option<u64> {
    let dir = std::path::absolute(dir).ok()?;
    let existing = dir.ancestors().find(|dir| dir.exists())?;
    fs4::available_space(existing).ok()
}

/// Checks that there is room for a checkpoint of `needed` bytes.
///
/// # Errors
/// [`RunError::NoSpace`] names the folder and its file system.
pub(crate) fn check_space(dir: &Path, needed: u64) -> Result<(), RunError> {
    match free_space(dir) {
        Some(free) if free < needed => Err(RunError::NoSpace {
            path: dir.to_owned(),
            mount: mount_point(dir),
            free: bytes(free),
            needed: bytes(needed),
        }),
        _ => Ok(()),
    }
}

/// The highest folder on the file system of a folder.
fn mount_point(dir: &Path) -> PathBuf {
    let path = dir.canonicalize().unwrap_or_else(|_| dir.to_owned());
    let device = |path: &Path| {
        #[cfg(unix)]
        return std::os::unix::fs::MetadataExt::dev(&path.metadata().ok()?).into();
        #[cfg(not(unix))]
        path.metadata().ok().map(|_| 0_u64)
    };
    let of_dir: Option<u64> = device(&path);
    path.ancestors().take_while(|ancestor| device(ancestor) == of_dir).last().unwrap_or(&path).to_owned()
}

fn too_large(what: &'static str, needed: u64, available: u64, (part, of_part): (&str, u64)) -> RunError {
    RunError::TooLarge {
        what,
        needed: bytes(needed),
        available: bytes(available),
        part: format!("{} for {part}", bytes(of_part)),
        keys: keys_of(part),
    }
}

/// The keys that make a part smaller.
fn keys_of(part: &str) -> &'static str {
    match part {
        "completions of a step" => {
            "rollout.group_size, rollout.max_new_tokens, sampler.train_batch, sampler.gen_batch or sampler.max_gen_rounds"
        }
        "evaluated completions" => "eval.samples or eval.limit",
        "keys and values" | "prompts and logits" | "freed, held for reuse" => "rollout.cache_mib",
        "activations of rollouts" | "gaps between them" => "rollout.keep_activations_mib",
        "activations" | "head, a chunk of rows" => {
            "train.micro_batch_tokens or rollout.max_new_tokens, or set train.layer_memory = \"recompute\""
        }
        "sums of shards" => "train.shards",
        "texts of completions" => "train.steps, or set output.completions = false",
        _ => "the size of the model, or set lora.rank",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::layers::{Layer, resolve};

    fn of(settings: &[&str]) -> CostEstimate {
        let layers: Vec<Layer> = settings.iter().map(|setting| Layer::Override((*setting).to_owned())).collect();
        let data = DataSizes { longest_prompt: Some(1), problems: None };
        estimate(&resolve(&layers).unwrap().config, &ModelConfig::qwen3_0_6b(), data)
    }

    #[test]
    fn settings_that_no_machine_can_hold_are_refused_with_the_keys_at_fault() {
        let machine = Machine { memory: Some(1 << 40), disk: Some(1 << 40) };
        for (setting, part, key) in [
            ("sampler.gen_batch=9223372036854775807", "completions of a step", "sampler.gen_batch"),
            ("rollout.group_size=1000000000", "completions of a step", "rollout.group_size"),
            ("sampler.train_batch=1000000000", "completions of a step", "sampler.train_batch"),
            ("eval.samples=1000000000000", "evaluated completions", "eval.samples"),
        ] {
            let error = machine.check(&of(&[setting, "eval.every=1"])).unwrap_err().to_string();
            assert!(error.starts_with("the run needs about "), "{error}");
            assert!(error.contains(" of memory, expected at most 1 TiB, "), "{error}");
            assert!(error.contains(&format!(" for {part}")) && error.contains(key), "{setting}: {error}");
        }
    }

    #[test]
    fn a_small_machine_refuses_what_is_beyond_doubt_and_warns_of_the_rest() {
        let estimate = of(&["sampler.train_batch=4", "rollout.max_new_tokens=64", "train.micro_batch_tokens=128"]);
        let needed = estimate.memory.peak();
        let with = |memory| Machine { memory: Some(memory), disk: None }.check(&estimate);
        assert!(with(needed).unwrap().is_none());
        let warning = with(needed / 100 * 90).unwrap().unwrap();
        assert!(warning.starts_with("the run may need ") && warning.contains("and this machine has"), "{warning}");
        let error = with(needed / 2).unwrap_err().to_string();
        assert!(error.contains("lower the size of the model, or set lora.rank"), "{error}");

        // A checkpoint of 600 M parameters has 7 GB.
        let with = |disk| Machine { memory: None, disk: Some(disk) }.check(&estimate);
        let error = with(1 << 30).unwrap_err().to_string();
        assert!(
            error.contains("of disk space, expected at most 1 GiB, ") && error.contains("for a checkpoint"),
            "{error}"
        );
        assert!(with(estimate.disk.checkpoint).unwrap().unwrap().starts_with("the run folder may grow to "));
        assert!(with(estimate.disk.total()).unwrap().is_none());
    }

    #[test]
    fn a_checkpoint_that_finds_no_room_is_refused_with_the_file_system_at_fault() {
        let dir = Path::new("src");
        check_space(dir, 1).unwrap();
        let error = check_space(dir, 1 << 60).unwrap_err();
        let RunError::NoSpace { mount, .. } = &error else { panic!("{error:?}") };
        assert!(dir.canonicalize().unwrap().starts_with(mount), "{mount:?}");
        let text = error.to_string();
        let said = [" are free on its file system, ", ", expected 1024 PiB for a checkpoint: make room"];
        assert!(text.starts_with("src: ") && said.iter().all(|said| text.contains(said)), "{text}");
    }

    #[test]
    fn this_machine_has_memory_and_disk_space() {
        let machine = Machine::here(Path::new("no/such/folder/yet"));
        assert!(machine.memory.unwrap() > 1 << 28, "{machine:?}");
        assert!(machine.disk.is_some());
    }
}
