//! Completions a device, accumulation steps and processes, as groups a step and updates a pass.

use super::Defaults;
use crate::draft::{Draft, Got, places};

/// How the source's counts translate.
pub(crate) struct Batch {
    /// Optimizer updates of a rollout step: the source counts in updates, we in rollout steps.
    updates: i64,
    /// The entries that decide it and whose values are not known.
    open: Vec<usize>,
}

impl Batch {
    /// A source that counts in rollout steps.
    pub(crate) fn of_rollouts() -> Self {
        Self { updates: 1, open: Vec::new() }
    }

    /// Rollout steps that hold a number of the source's updates.
    pub(crate) fn steps(&self, updates: Got<i64>) -> Got<i64> {
        Got { value: ceil(updates.value, self.updates), from: [updates.from, self.open.clone()].concat() }
    }

    /// The same, with a note where that is another number.
    pub(crate) fn noted_steps(&self, d: &mut Draft<'_>, updates: Got<i64>) -> Got<i64> {
        let (count, from) = (updates.value, updates.from.clone());
        let steps = self.steps(updates);
        if self.updates > 1 && d.knows(&steps.from) {
            let text = format!(
                "{count} optimizer updates are {} rollout steps of {} updates, rounded up",
                steps.value, self.updates
            );
            d.note(&from, text);
        }
        steps
    }
}

/// Groups of a step, mini-batches and passes.
pub(crate) fn batch(d: &mut Draft<'_>, defaults: &Defaults) -> Batch {
    let group = d.count(&["num_generations"], 1).unwrap_or(Got::default(8));
    let group_size = group.value;
    d.put_or("rollout.group_size", Some(group.clone()), 8);
    let update = completions_of_update(d, defaults);
    let accumulation = update.accumulation;
    let generation = d.count(&["generation_batch_size"], 1);
    let per_generation = d.count(&["steps_per_generation"], 1);
    // Completions generated at a time; an update that takes in several generations is one step of ours, because the
    // policy does not change in between.
    let (completions, portions) = match (&generation, &per_generation) {
        (Some(total), _) => {
            let total = total.clone().map(|total| total.max(update.total.value));
            let portions = ceil(total.value, update.total.value);
            (total, portions)
        }
        (None, Some(steps)) => {
            let per_step = update.total.value / accumulation;
            let total = per_step.saturating_mul(steps.value.max(accumulation));
            (Got::of(total, &[&update.total.from, &steps.from]), ceil(steps.value, accumulation))
        }
        (None, None) => (update.total.clone(), 1),
    };
    if let (Some(_), Some(steps)) = (&generation, &per_generation) {
        d.leave(&steps.from, "generation_batch_size counts");
    }
    let groups = Got::of(ceil(completions.value, group_size), &[&completions.from, &group.from]);
    if !d.knows(&groups.from) {
        // What it is multiplied by is to be told first.
    } else if completions.value % group_size != 0 {
        d.note(
            &completions.from,
            format!(
                "{} completions a step are no multiple of {group_size} a group: rounded up to {} groups (the number of \
                 processes would multiply them)",
                completions.value, groups.value
            ),
        );
    } else if !update.has_processes {
        d.note(
            &completions.from,
            "the source multiplies this by its number of processes, which the file does not tell: taken as 1",
        );
    }
    d.put_or("sampler.train_batch", Some(groups.clone()), 1);
    d.put_or("sampler.gen_batch", Some(groups.clone()), 1);
    let from = match (&generation, &per_generation) {
        (None, None) => Vec::new(),
        (Some(got), _) | (None, Some(got)) => [got.from.clone(), update.total.from.clone()].concat(),
    };
    let mini_batches = Got { value: portions.min(groups.value), from };
    if portions > groups.value && d.knows(&mini_batches.from) {
        d.note(
            &mini_batches.from,
            format!(
                "the source makes {portions} updates of a generation with less than a group in each; here a mini-batch \
                 has whole groups, and there are {}",
                groups.value
            ),
        );
    }
    let portions = mini_batches.value;
    d.put_or("train.mini_batches", Some(mini_batches.clone()), 1);
    let passes = d.count(&["num_iterations"], 1);
    let updates = portions.saturating_mul(passes.as_ref().map_or(1, |passes| passes.value));
    let decided_by = [groups.from, mini_batches.from, places(passes.as_ref())].concat();
    let open = decided_by.into_iter().filter(|&i| !d.knows(&[i])).collect();
    d.put_or("train.updates_per_batch", passes, 1);
    Batch { updates, open }
}

pub(super) struct Update {
    /// Completions of an optimizer update.
    pub(super) total: Got<i64>,
    accumulation: i64,
    pub(super) has_processes: bool,
}

pub(super) fn completions_of_update(d: &mut Draft<'_>, defaults: &Defaults) -> Update {
    let processes = super::processes(d);
    let has_processes = !processes.from.is_empty();
    // ms-swift's Megatron trainer names the product itself.
    if let Some(total) = d.count(&["global_batch_size"], 1) {
        d.leave(&processes.from, "global_batch_size counts");
        return Update { total, accumulation: 1, has_processes: true };
    }
    let per_device = d.count(&["per_device_train_batch_size"], 1);
    let accumulation = d.count(&["gradient_accumulation_steps"], 1);
    let size = per_device.as_ref().map_or(defaults.per_device, |size| size.value);
    let times = accumulation.as_ref().map_or(1, |times| times.value);
    let product = size.saturating_mul(times).saturating_mul(processes.value);
    let from = [places(per_device.as_ref()), places(accumulation.as_ref()), processes.from];
    Update { total: Got { value: product, from: from.concat() }, accumulation: times, has_processes }
}

/// a / b, rounded up.
pub(super) fn ceil(a: i64, b: i64) -> i64 {
    a.div_euclid(b) + i64::from(a.rem_euclid(b) != 0)
}
