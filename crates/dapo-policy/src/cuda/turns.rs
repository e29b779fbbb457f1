//! The turns of a completion after its first: what somebody else says is computed on top of a sequence's cache.

use super::blocks::BLOCK_SIZE;
use super::cache::Places;
use super::compute::Compute;
use super::forward::{Attend, Pass};
use super::generator::{CudaGenerator, upload_table};
use crate::backend::Adapters;
use crate::check::check_ids;
use crate::error::PolicyError;
use crate::stop_strings::Tail;
use dapo_kernels::cuda::attention::BlockTable;
use dapo_kernels::cuda::embedding;
use dapo_kernels::cuda::sampling::{Assignment, draw};

/// Tokens computed in one pass; each attends to its sequence as one that is decoded.
const EXTEND_TOKENS: usize = 512;

/// A token that is computed on top of a sequence.
struct Row {
    place: usize,
    token: u32,
    position: usize,
    /// Whether the next turn's first token is drawn from it.
    is_last: bool,
}

impl<T: Compute> CudaGenerator<'_, T> {
    /// Computes tokens on top of parked sequences, which are active again, and draws the first tokens of their next turns.
    pub(super) fn begin_turns(&mut self, turns: &[(usize, Vec<u32>)]) -> Result<(), PolicyError> {
        let rows = self.rows(turns)?;
        rows.chunks(EXTEND_TOKENS).try_for_each(|rows| self.extend(rows))
    }

    /// The tokens to compute, sequence after sequence; the sequences are set up for their next turns.
    fn rows(&mut self, turns: &[(usize, Vec<u32>)]) -> Result<Vec<Row>, PolicyError> {
        let (gpu, capacity) = (&self.model.gpu, self.sequences.capacity());
        let of = &mut self.sequences;
        let (mut limits, mut positions) = (gpu.read(of.limits.view())?, gpu.read(of.positions.view())?);
        let (mut lengths, mut finished) = (gpu.read(of.lengths.view())?, gpu.read(of.finished.view())?);
        let mut rows = Vec::new();
        for (place, tokens) in turns {
            check_ids("the answer to a turn", tokens, self.model.config.vocab_size)?;
            let active = self.active.get_mut(*place).and_then(Option::as_mut).filter(|active| active.is_parked);
            let Some(active) = active else {
                let message = format!("place {place} is to be continued, where no sequence is parked");
                return Err(PolicyError::Internal(message));
            };
            // No cache has a turn's last token yet.
            let first = active.len() - 1;
            let last = place * capacity + active.length - 1;
            let last = gpu.read(of.completions.part(last..last + 1)?)?;
            for (i, token) in last.iter().chain(tokens).enumerate() {
                rows.push(Row { place: *place, token: *token, position: first + i, is_last: i == tokens.len() });
            }
            active.is_parked = false;
            active.context += tokens.len();
            active.before = active.length;
            (active.tail, active.searched) = (Tail::default(), active.length);
            limits[*place] = (active.before + self.config.turn_limit(active.before)) as i32;
            positions[*place] = (first + tokens.len()) as i32;
            (lengths[*place], finished[*place]) = (active.length as i32, 0);
            // The host knows of the token that is drawn next.
            active.length += 1;
        }
        gpu.write(&limits, of.limits.view_mut())?;
        gpu.write(&positions, of.positions.view_mut())?;
        gpu.write(&lengths, of.lengths.view_mut())?;
        gpu.write(&finished, of.finished.view_mut())?;
        Ok(rows)
    }

    /// One pass over rows, and a draw for those that are the last of their sequences.
    fn extend(&mut self, rows: &[Row]) -> Result<(), PolicyError> {
        let (model, gpu) = (self.model, &self.model.gpu);
        let mut blocks = Vec::with_capacity(rows.len());
        for row in rows {
            let active = self.active[row.place].as_ref();
            let active = active.ok_or_else(|| PolicyError::Internal(format!("place {} has no sequence", row.place)))?;
            blocks.push(self.blocks_of(active)?);
        }
        let (table, max_blocks) = upload_table(gpu, &blocks.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        let numbers = |of: &dyn Fn(&Row) -> u32| gpu.upload(&rows.iter().map(of).collect::<Vec<u32>>());
        let ids = numbers(&|row| row.token)?;
        let positions = numbers(&|row| row.position as u32)?;
        let lengths = numbers(&|row| row.position as u32 + 1)?;
        let sequences = gpu.upload(&(0..rows.len() as u32).collect::<Vec<_>>())?;
        let rotary = gpu.upload(&rows.iter().map(|row| row.position as i32).collect::<Vec<_>>())?;
        let longest = rows.iter().map(|row| row.position + 1).max().unwrap_or(0);
        let places = Places {
            sequences: sequences.view(),
            positions: positions.view(),
            table: BlockTable { blocks: table.view(), max_blocks },
        };
        let max_len = longest.min(max_blocks * BLOCK_SIZE);
        let mut attend = Attend::Decode { cache: &mut self.cache, places, lengths: lengths.view(), max_len };
        let pass = Pass { ids: ids.view(), positions: rotary.view(), adapters: Adapters::On };
        model.forward(&pass, &mut attend, None, &mut self.workspace)?;
        let lasts: Vec<u32> = (0..).zip(rows).filter(|(_, row)| row.is_last).map(|(i, _)| i).collect();
        if lasts.is_empty() {
            return Ok(());
        }
        let last = gpu.upload(&lasts)?;
        let drawing: Vec<i32> = rows.iter().filter(|row| row.is_last).map(|row| row.place as i32).collect();
        let (width, head) = (model.config.hidden_size, &mut self.workspace.head);
        let plain = head.plain.sized(gpu, lasts.len() * width)?;
        embedding::gather(gpu, self.workspace.x.view()?, last.view(), width, plain)?;
        model.norm(head.plain.view()?, model.slabs.norm, head.normed.sized(gpu, lasts.len() * width)?)?;
        model.logits_of(head.normed.view()?, &mut self.logits)?;
        let drawing = gpu.upload(&drawing)?;
        let assignment = Assignment { rows: None, sequences: Some(drawing.view()) };
        let (shape, logits) = (model.logits_shape(lasts.len(), 1.0), self.logits.view()?);
        let stops = self.stops.view();
        Ok(draw(gpu, &self.rule, shape, logits, lasts.len(), assignment, stops, &mut self.sequences)?)
    }
}
