//! The decoder as nodes of Candle's graph.
//!
//! Candle's custom operations have at most three arguments, a decoder has hundreds. So each variable has a node of its own,
//! a tree joins these to one scalar (the anchor), and the operation with the results has the anchor as argument:
//!
//! ```text
//! var 0 ──► Leaf 0 ─┐
//! var 1 ──► Leaf 1 ─┴─► Join ─┐
//! var 2 ──► Leaf 2 ───────────┴─► Join ──► Scored ──► log-probs, entropies
//! ```
//!
//! Forward, leaves and joins compute nothing. Backward, `Scored` comes first: it runs the decoder's backward pass, leaves
//! the gradients under the numbers of this pass and of the leaves, and sends the pass's number down the tree as the
//! anchor's gradient. Each leaf takes its gradient of that pass. No weight is copied, and passes on several threads do
//! not mix.

use crate::batch::TokenBatch;
use crate::decoder::Decoder;
use crate::error::PolicyError;
use crate::gradients::Gradients;
use crate::policy::Policy;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Error, Layout, Result, Shape, Tensor, Var, bail};
use dapo_kernels::logprobs::{RowGradients, Rows};
use dapo_kernels::with_slice;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

const OP: &str = "token_logprobs";

/// The decoder that the variables and every graph of theirs share.
#[derive(Debug)]
pub(super) struct Shared(RwLock<Present>);

/// The decoder at one state of the variables.
#[derive(Debug)]
pub(super) struct Present {
    decoder: Decoder,
    /// How often it has taken over other values.
    version: u64,
}

impl Shared {
    pub(super) fn new(decoder: Decoder) -> Self {
        Self(RwLock::new(Present { decoder, version: 0 }))
    }

    /// Lets the decoder take over the variables' values.
    pub(super) fn follow(&self, vars: &[Var]) -> std::result::Result<(), PolicyError> {
        let mut present = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let followed = present.decoder.follow(vars);
        if !matches!(followed, Ok(false)) {
            present.version += 1;
        }
        followed.map(drop)
    }

    pub(super) fn read(&self) -> Reading<'_> {
        Reading(self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The decoder, locked for reading.
pub(super) struct Reading<'a>(RwLockReadGuard<'a, Present>);

impl Reading<'_> {
    pub(super) fn version(&self) -> u64 {
        self.0.version
    }
}

impl Deref for Reading<'_> {
    type Target = Decoder;

    fn deref(&self) -> &Decoder {
        &self.0.decoder
    }
}

/// Gradients on their way from a backward pass to the leaves, by pass and leaf.
#[derive(Debug, Default)]
struct Underway {
    passes: u64,
    gradients: HashMap<(u64, usize), Tensor>,
}

type Exchange = Arc<Mutex<Underway>>;

/// The pass whose number came down as a gradient.
fn pass_of(gradient: &Tensor) -> Result<u64> {
    Ok(gradient.to_scalar::<f64>()? as u64)
}

/// A scalar 0 for the anchor and its tree; f64, so that every number of a pass is exact.
fn zero() -> (CpuStorage, Shape) {
    (CpuStorage::F64(vec![0.0]), Shape::from(()))
}

/// Where a variable hangs on the tree.
struct Leaf {
    index: usize,
    exchange: Exchange,
}

impl CustomOp1 for Leaf {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(zero())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        let pass = pass_of(upstream)?;
        Ok(self.exchange.lock().unwrap_or_else(PoisonError::into_inner).gradients.remove(&(pass, self.index)))
    }
}

/// Joins two parts of the tree.
struct Join;

impl CustomOp2 for Join {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok(zero())
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, _: &Tensor, upstream: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Ok((Some(upstream.clone()), Some(upstream.clone())))
    }
}

/// A batch that was scored.
pub(super) struct Scored {
    pub(super) shared: Arc<Shared>,
    /// Of the decoder that scored it.
    pub(super) version: u64,
    pub(super) batch: TokenBatch,
    pub(super) temperature: f32,
}

impl Scored {
    /// `[2, T]` log-probs and entropies, as values that depend on the variables.
    pub(super) fn of(self, values: &Tensor, vars: &[Var]) -> Result<Tensor> {
        let exchange = Exchange::default();
        let leaf = |(index, var): (usize, &Var)| var.apply_op1(Leaf { index, exchange: Arc::clone(&exchange) });
        let mut nodes = vars.iter().enumerate().map(leaf).collect::<Result<Vec<_>>>()?;
        while nodes.len() > 1 {
            let join = |pair: &[Tensor]| match pair {
                [a, b] => a.apply_op2(b, Join),
                _ => Ok(pair[0].clone()),
            };
            nodes = nodes.chunks(2).map(join).collect::<Result<_>>()?;
        }
        let Some(anchor) = nodes.pop() else { bail!("{OP}: no variables") };
        values.apply_op2(&anchor, ScoredOp { scored: self, exchange, leaves: vars.len() })
    }

    /// The gradients of Σ g·(log-probs, entropies), with `[2, T]` g.
    fn backward(&self, g: &[f32], leaves: usize) -> std::result::Result<Vec<Option<Tensor>>, PolicyError> {
        let decoder = self.shared.read();
        if decoder.version() != self.version {
            return Err(PolicyError::Setting {
                field: "variables".into(),
                found: "changed since the log-probs were computed, and taken over by the decoder".into(),
                expected: "backward before the decoder is used with other values".into(),
            });
        }
        let (of_logprobs, of_entropies) = g.split_at(g.len() / 2);
        let mut gradients = Gradients::new(leaves);
        let mut loss = |rows: Rows<'_>, into: RowGradients<'_>| {
            let range = rows.start..rows.start + rows.logprobs.len();
            into.logprobs.copy_from_slice(&of_logprobs[range.clone()]);
            into.entropies.copy_from_slice(&of_entropies[range]);
            Ok(())
        };
        decoder.logprobs_backward(&self.batch, self.temperature, &mut gradients, &mut loss)?;
        (0..leaves).map(|index| decoder.gradient(&gradients, index)).collect()
    }
}

/// The results' operation: takes its values as they are and hands gradients to the anchor.
struct ScoredOp {
    scored: Scored,
    exchange: Exchange,
    leaves: usize,
}

impl CustomOp2 for ScoredOp {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(&self, values: &CpuStorage, l: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        Ok((values.clone(), l.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, anchor: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let computed = with_slice(&g.contiguous()?, |g| self.scored.backward(g, self.leaves).map_err(Error::wrap))?;
        let mut underway = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        underway.passes += 1;
        let pass = underway.passes;
        let found = computed.into_iter().enumerate();
        underway.gradients.extend(found.filter_map(|(leaf, gradient)| Some(((pass, leaf), gradient?))));
        Ok((None, Some(Tensor::new(pass as f64, anchor.device())?)))
    }
}
