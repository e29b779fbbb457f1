//! `groups.safetensors` of a checkpoint: the token ids and log-probs of carried groups.
//!
//! | tensor | what, in the order of the groups and their samples |
//! |---|---|
//! | `lengths` | u32: of each group its prompt's tokens; then of each sample its tokens, log-probs and old log-probs, [`NONE`] where it has no old ones |
//! | `tokens` | u32: of each group its prompt's ids, then those of its samples |
//! | `logprobs` | f32: of each sample those of the rollout, in nats |
//! | `old_logprobs` | f32: of each sample those of training, where it has them, in nats |

use crate::error::TrainerError;
use crate::sample::{Group, Sample};
use dapo_files::read_file;
use dapo_sampler::DynamicSampler;
use safetensors::tensor::{Dtype, TensorView};
use safetensors::{SafeTensorError, SafeTensors, serialize};
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// The file's name.
pub(crate) const FILE: &str = "groups.safetensors";

/// The length of old log-probs that a sample does not have.
const NONE: u32 = u32::MAX;

/// What a group takes in a checkpoint, in bytes, about: its numbers here, its texts beside them.
pub(crate) fn bytes(group: &Group) -> usize {
    let of_sample = |sample: &Sample| {
        let old = sample.old_logprobs.as_ref().map_or(0, Vec::len);
        4 * (sample.completion.token_ids.len() + sample.completion.logprobs.len() + old) + sample.text.len()
    };
    let prompt = &group.prompt;
    4 * prompt.token_ids.len() + prompt.text.len() + group.samples.iter().map(of_sample).sum::<usize>()
}

/// The numbers of groups, one group after the other.
#[derive(Default)]
struct Numbers {
    lengths: Vec<u32>,
    tokens: Vec<u32>,
    logprobs: Vec<f32>,
    old_logprobs: Vec<f32>,
}

impl Numbers {
    /// Takes the numbers out of a group.
    fn take(&mut self, group: &mut Group) {
        self.lengths.push(group.prompt.token_ids.len() as u32);
        self.tokens.append(&mut group.prompt.token_ids);
        for sample in &mut group.samples {
            let (completion, old) = (&mut sample.completion, sample.old_logprobs.take());
            let lengths = [completion.token_ids.len() as u32, completion.logprobs.len() as u32];
            self.lengths.extend(lengths);
            self.lengths.push(old.as_ref().map_or(NONE, |old| old.len() as u32));
            self.tokens.append(&mut completion.token_ids);
            self.logprobs.append(&mut completion.logprobs);
            self.old_logprobs.extend(old.into_iter().flatten());
        }
    }

    /// The contents of a file.
    fn to_bytes(&self) -> Result<Vec<u8>, SafeTensorError> {
        let bytes = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let tensors = [
            ("lengths", Dtype::U32, bytes(&self.lengths)),
            ("logprobs", Dtype::F32, floats(&self.logprobs)),
            ("old_logprobs", Dtype::F32, floats(&self.old_logprobs)),
            ("tokens", Dtype::U32, bytes(&self.tokens)),
        ];
        let views = tensors.iter().map(|(name, dtype, bytes)| {
            TensorView::new(*dtype, vec![bytes.len() / 4], bytes).map(|view| ((*name).to_owned(), view))
        });
        views.collect::<Result<Vec<_>, _>>().and_then(|views| serialize(views, None))
    }

    /// The numbers of [`to_bytes`](Self::to_bytes), or what is found instead.
    fn of_bytes(bytes: &[u8]) -> Result<Self, String> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
        let words = |name: &str, dtype: Dtype| {
            let tensor = tensors.tensor(name).map_err(|error| error.to_string())?;
            if tensor.dtype() != dtype {
                return Err(format!("{name} of type {:?}", tensor.dtype()));
            }
            let words = tensor.data().as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
            Ok(words.collect::<Vec<u32>>())
        };
        let floats = |name| Ok::<_, String>(words(name, Dtype::F32)?.into_iter().map(f32::from_bits).collect());
        Ok(Self {
            lengths: words("lengths", Dtype::U32)?,
            tokens: words("tokens", Dtype::U32)?,
            logprobs: floats("logprobs")?,
            old_logprobs: floats("old_logprobs")?,
        })
    }

    fn rest(&self) -> Rest<'_> {
        let Self { lengths, tokens, logprobs, old_logprobs } = self;
        Rest { lengths, tokens, logprobs, old_logprobs }
    }
}

/// The numbers of groups that are still to be handed out.
struct Rest<'a> {
    lengths: &'a [u32],
    tokens: &'a [u32],
    logprobs: &'a [f32],
    old_logprobs: &'a [f32],
}

impl Rest<'_> {
    /// Puts the numbers back into a group; `None` where too few are left.
    fn put(&mut self, group: &mut Group) -> Option<()> {
        let length = self.length()?;
        group.prompt.token_ids = some(&mut self.tokens, length)?;
        for sample in &mut group.samples {
            let (tokens, logprobs, old) = (self.length()?, self.length()?, self.length()?);
            sample.completion.token_ids = some(&mut self.tokens, tokens)?;
            sample.completion.logprobs = some(&mut self.logprobs, logprobs)?;
            sample.old_logprobs = if old == NONE { None } else { Some(some(&mut self.old_logprobs, old)?) };
        }
        Some(())
    }

    fn length(&mut self) -> Option<u32> {
        self.lengths.split_off_first().copied()
    }

    fn is_empty(&self) -> bool {
        let floats = self.logprobs.is_empty() && self.old_logprobs.is_empty();
        floats && self.lengths.is_empty() && self.tokens.is_empty()
    }
}

/// The first `length` values of a list.
fn some<T: Copy>(values: &mut &[T], length: u32) -> Option<Vec<T>> {
    values.split_off(..length as usize).map(<[T]>::to_vec)
}

/// Writes the numbers of the carried groups into a checkpoint's folder, where there are any, and gives the sampler without
/// them.
pub(crate) fn write(
    dir: &Path,
    sampler: &DynamicSampler<Arc<Group>>,
) -> Result<DynamicSampler<Arc<Group>>, TrainerError> {
    let (mut sampler, mut numbers) = (sampler.clone(), Numbers::default());
    for (_, group) in sampler.kept_mut() {
        numbers.take(Arc::make_mut(group));
    }
    if !sampler.kept().is_empty() {
        let file = dir.join(FILE);
        let bytes = numbers.to_bytes().map_err(|error| wrong(&file, &error.to_string()))?;
        fs::write(&file, bytes).map_err(|source| TrainerError::Io { path: file, source })?;
    }
    Ok(sampler)
}

/// Takes the numbers out of one group.
pub(crate) fn take(group: &mut Group) -> Result<Vec<u8>, SafeTensorError> {
    let mut numbers = Numbers::default();
    numbers.take(group);
    numbers.to_bytes()
}

/// Puts the numbers that [`take`] gave back into their group, or says what is found instead.
pub(crate) fn put(bytes: &[u8], group: &mut Group) -> Result<(), String> {
    let numbers = Numbers::of_bytes(bytes)?;
    let mut rest = numbers.rest();
    let is_whole = rest.put(group).is_some() && rest.is_empty();
    if is_whole { Ok(()) } else { Err("not the numbers of this group".to_owned()) }
}

/// Puts the numbers of the carried groups back into the sampler that [`write`] gave.
pub(crate) fn read(dir: &Path, sampler: &mut DynamicSampler<Arc<Group>>) -> Result<(), TrainerError> {
    if sampler.kept().is_empty() {
        return Ok(());
    }
    let file = dir.join(FILE);
    let bytes = read_file(&file).map_err(|source| TrainerError::Io { path: file.clone(), source })?;
    let numbers = Numbers::of_bytes(&bytes).map_err(|found| wrong(&file, &found))?;
    let mut rest = numbers.rest();
    let is_whole = sampler.kept_mut().all(|(_, group)| rest.put(Arc::make_mut(group)).is_some());
    if is_whole && rest.is_empty() {
        return Ok(());
    }
    Err(wrong(&file, &format!("not the numbers of {} groups", sampler.kept().len())))
}

fn wrong(file: &Path, found: &str) -> TrainerError {
    let expected = "the token ids and log-probs of the carried groups that trainer.json lists".into();
    TrainerError::Checkpoint { path: file.into(), found: found.into(), expected }
}
