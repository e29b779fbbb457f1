//! Drawing tokens on a GPU, without asking the host after each.
//!
//! Letters: B sequences, V vocabulary, C most tokens of a completion.

use super::logprobs::{LogitsShape, ROW_THREADS};
use super::{Buffer, Element, Gpu, In, Kernel, Launch, expect_len};
use candle_core::{Result, bail};

/// Largest vocabulary: the integer weights of more tokens might not add up.
pub const MAX_VOCAB: usize = 1 << 19;

/// How tokens are drawn; the meaning of each field is that of the policy's sampling settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SamplingRule {
    /// Logits are divided by it; 0 takes the most probable token.
    pub temperature: f32,
    /// Number of most probable tokens kept; 0 keeps all.
    pub top_k: usize,
    /// The fewest of these whose probability reaches this part of theirs are kept; 1 keeps all.
    pub top_p: f32,
    /// Tokens with at least this share of the largest probability are kept, before top-k; 0 keeps all.
    pub min_p: f32,
    /// Seed of all random numbers.
    pub seed: u64,
    /// What the numbers are for.
    pub purpose: u64,
}

/// The sequences that grow, on the device. What each needs to know, and what it has drawn.
#[derive(Debug)]
pub struct Sequences {
    /// The draw of each sequence: with the seed, the purpose, the sample and the token's number the key of its random
    /// numbers.
    pub draws: Buffer<u64>,
    /// The sample of each.
    pub samples: Buffer<u64>,
    /// Most tokens of each completion, at most C.
    pub limits: Buffer<i32>,
    /// The token drawn last: the next to compute.
    pub tokens: Buffer<u32>,
    /// Its position in the sequence. Before the first draw: that of the prompt's last token.
    pub positions: Buffer<i32>,
    /// Tokens drawn so far.
    pub lengths: Buffer<i32>,
    /// 0 while active, 1 ended by a stop token, 2 ended by its limit. A sequence that is not 0 is left alone.
    pub finished: Buffer<i32>,
    /// `[B, C]`: the tokens drawn.
    pub completions: Buffer<u32>,
    /// `[B, C]`: their log-probs in the full softmax at the temperature (at 1 where that is 0).
    pub logprobs: Buffer<f32>,
    capacity: usize,
}

impl Sequences {
    /// B sequences of at most `capacity` tokens, all finished (2): the places to be filled by the caller.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(gpu: &Gpu, count: usize, capacity: usize) -> Result<Self> {
        Ok(Self {
            draws: gpu.zeros(count)?,
            samples: gpu.zeros(count)?,
            limits: gpu.zeros(count)?,
            tokens: gpu.zeros(count)?,
            positions: gpu.zeros(count)?,
            lengths: gpu.zeros(count)?,
            finished: gpu.upload(&vec![2; count])?,
            completions: gpu.zeros(count * capacity)?,
            logprobs: gpu.zeros(count * capacity)?,
            capacity,
        })
    }

    /// B.
    pub fn count(&self) -> usize {
        self.draws.len()
    }

    /// C.
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// Which sequence draws from which row of logits; `None` stands for 0, 1, 2, ….
///
/// Not checked, as they are on the device: below B and below the number of rows; no sequence twice.
#[derive(Clone, Debug, Default)]
pub struct Assignment<'a> {
    /// For every draw, the row of its logits.
    pub rows: Option<In<'a, i32>>,
    /// For every draw, its sequence.
    pub sequences: Option<In<'a, i32>>,
}

/// Draws the next token of `draws` sequences and moves them on.
///
/// The token is noted in its sequence's completion with its log-prob, `tokens`, `positions` and `lengths` move on, and
/// `finished` says whether the sequence has ended: by one of `stops`, or by its limit.
///
/// # Shapes
/// logits `[R, S]`; `shape.temperature` is not used, that of the rule is.
///
/// # Errors
/// When sizes disagree, V is above [`MAX_VOCAB`], or a value of the rule is outside its range.
pub fn draw<T: Element>(
    gpu: &Gpu,
    rule: &SamplingRule,
    shape: LogitsShape,
    logits: In<'_, T>,
    draws: usize,
    assignment: Assignment<'_>,
    stops: In<'_, u32>,
    sequences: &mut Sequences,
) -> Result<()> {
    let op = "sampling";
    LogitsShape { temperature: 1.0, ..shape }.check(op, logits.len())?;
    if shape.vocab > MAX_VOCAB {
        bail!("{op}: a vocabulary of {}, expected at most {MAX_VOCAB}", shape.vocab);
    }
    if !(rule.temperature >= 0.0 && rule.temperature.is_finite()) {
        bail!("{op}: temperature {} must be at least 0", rule.temperature);
    }
    if !(rule.top_p > 0.0 && rule.top_p <= 1.0) {
        bail!("{op}: top_p {} must be above 0 and at most 1", rule.top_p);
    }
    if !(0.0..=1.0).contains(&rule.min_p) {
        bail!("{op}: min_p {} must be from 0 to 1", rule.min_p);
    }
    match &assignment.rows {
        Some(rows) => expect_len(op, "rows", rows.len(), draws)?,
        None if draws > shape.rows => bail!("{op}: {draws} draws from {} rows", shape.rows),
        None => {}
    }
    match &assignment.sequences {
        Some(numbers) => expect_len(op, "sequences", numbers.len(), draws)?,
        None if draws > sequences.count() => bail!("{op}: {draws} draws for {} sequences", sequences.count()),
        None => {}
    }
    let count = sequences.count();
    for (name, len) in [
        ("samples", sequences.samples.len()),
        ("limits", sequences.limits.len()),
        ("tokens", sequences.tokens.len()),
        ("positions", sequences.positions.len()),
        ("lengths", sequences.lengths.len()),
        ("finished", sequences.finished.len()),
    ] {
        expect_len(op, name, len, count)?;
    }
    expect_len(op, "completions", sequences.completions.len(), count * sequences.capacity)?;
    expect_len(op, "logprobs", sequences.logprobs.len(), count * sequences.capacity)?;
    let kernel = Kernel::new("sampling", T::pick("sampling_draw_f32", "sampling_draw_bf16"));
    let stop_count = stops.len();
    Launch::new(gpu, kernel)
        .input(logits)
        .long(shape.stride as u64)
        .int(shape.vocab)
        .optional_input(assignment.rows)
        .optional_input(assignment.sequences)
        .float(rule.temperature)
        .int(rule.top_k.min(MAX_VOCAB))
        .float(rule.top_p)
        .float(rule.min_p)
        .long(rule.seed)
        .long(rule.purpose)
        .input(sequences.draws.view())
        .input(sequences.samples.view())
        .input(stops)
        .int(stop_count)
        .input(sequences.limits.view())
        .output(sequences.tokens.view_mut())
        .output(sequences.positions.view_mut())
        .output(sequences.lengths.view_mut())
        .output(sequences.finished.view_mut())
        .output(sequences.completions.view_mut())
        .output(sequences.logprobs.view_mut())
        .int(sequences.capacity)
        .run([draws, 1, 1], [ROW_THREADS, 1, 1], 0)
}

/// The random numbers of tokens `positions` of one completion, in [0, 1): to be compared with the host's.
///
/// # Errors
/// When the device fails.
pub fn uniforms(gpu: &Gpu, rule: &SamplingRule, draw: u64, sample: u64, positions: &[u64]) -> Result<Vec<f64>> {
    let streams = gpu.upload(positions)?;
    let mut out = gpu.zeros(positions.len())?;
    let launch = Launch::new(gpu, Kernel::new("sampling", "sampling_uniforms")).long(rule.seed).long(rule.purpose);
    let launch = launch.long(draw).long(sample).input(streams.view()).output(out.view_mut()).int(positions.len());
    launch.run([positions.len().div_ceil(128), 1, 1], [128, 1, 1], 0)?;
    gpu.read(out.view())
}
