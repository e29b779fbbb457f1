//! Completions a device, accumulation steps and processes, as groups a step and updates a pass.

use super::Defaults;
use crate::import::{
    draft::{Draft, Got},
    error::ImportError,
};

/// How the source's counts translate.
pub(in crate::import) struct Batch {
    /// Groups of a step.
    pub(in crate::import) groups: i64,
    /// Optimiser updates of a roll-out step: the source counts in updates, we in roll-out steps.
    pub(in crate::import) updates: i64,
}

impl Batch {
    /// Roll-out steps that hold so many of the source's updates.
    pub(in crate::import) fn steps(&self, updates: i64) -> i64 {
        ceil(updates, self.updates)
    }
}

/// Groups of a step, mini-batches and passes.
pub(in crate::import) fn batch(d: &mut Draft<'_>, defaults: &Defaults) -> Result<Batch, ImportError> {
    let group = d.count(&["num_generations"], 2)?.unwrap_or(Got { value: 8, from: Vec::new() });
    let group_size = group.value;
    d.put_or("rollout.group_size", Some(group.clone()), 8);
    let update = completions_of_update(d, defaults)?;
    let accumulation = update.accumulation;
    let generation = d.count(&["generation_batch_size"], 1)?;
    let per_generation = d.count(&["steps_per_generation"], 1)?;
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
    if completions.value % group_size != 0 {
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
    let count = groups.value;
    d.put_or("sampler.train_batch", Some(groups.clone()), 1);
    d.put_or("sampler.gen_batch", Some(groups), 1);
    let from = match (generation, per_generation) {
        (None, None) => Vec::new(),
        (Some(got), _) | (None, Some(got)) => [got.from, update.total.from].concat(),
    };
    d.put_or("train.mini_batches", Some(Got { value: portions, from }), 1);
    let epochs = d.count(&["num_iterations"], 1)?;
    let updates = portions.saturating_mul(epochs.as_ref().map_or(1, |epochs| epochs.value));
    d.put_or("train.updates_per_batch", epochs, 1);
    Ok(Batch { groups: count, updates })
}

struct Update {
    /// Completions of an optimiser update.
    total: Got<i64>,
    accumulation: i64,
    has_processes: bool,
}

fn completions_of_update(d: &mut Draft<'_>, defaults: &Defaults) -> Result<Update, ImportError> {
    let processes = super::processes(d)?;
    let has_processes = !processes.from.is_empty();
    // ms-swift's Megatron trainer names the product itself.
    if let Some(total) = d.count(&["global_batch_size"], 1)? {
        d.leave(&processes.from, "global_batch_size counts");
        return Ok(Update { total, accumulation: 1, has_processes: true });
    }
    let per_device = d.count(&["per_device_train_batch_size"], 1)?;
    let accumulation = d.count(&["gradient_accumulation_steps"], 1)?;
    let size = per_device.as_ref().map_or(defaults.per_device, |size| size.value);
    let times = accumulation.as_ref().map_or(1, |times| times.value);
    let from = [per_device, accumulation].map(|got| got.map(|got| got.from).unwrap_or_default());
    let product = size.saturating_mul(times).saturating_mul(processes.value);
    let total = Got::of(product, &[&from[0], &from[1], &processes.from]);
    Ok(Update { total, accumulation: times, has_processes })
}

/// a / b, rounded up.
fn ceil(a: i64, b: i64) -> i64 {
    a.div_euclid(b) + i64::from(a.rem_euclid(b) != 0)
}
