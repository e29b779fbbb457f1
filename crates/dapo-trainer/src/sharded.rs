//! Gradients of virtual shards, summed in one tree at any number of ranks.

use crate::error::TrainerError;
use crate::pack::PackedBatch;
use crate::team::{Team, to_bytes, to_words, unreadable};
use dapo_dist::{Blocks, Exchange, TreeSum};
use dapo_kernels::values;
use dapo_policy::{Decoder, Gradients, ValueHead};

/// What this rank has of a sum over all shards.
#[must_use]
pub(crate) enum ShardSum {
    /// All of it, where the gradients are: there is one shard.
    Whole,
    /// The sum over its own shards.
    Part {
        tree: TreeSum,
        /// The parameters that have a gradient in any shard.
        has_gradient: Vec<bool>,
    },
}

/// What a shard's pass does: it adds the gradients of the shard's micro-batches, and returns the figures that it measured.
/// The first argument is the shard's number.
pub(crate) type OfShard<'a, const N: usize> =
    dyn FnMut(usize, &[PackedBatch], &mut Gradients, Option<&mut ValueHead>) -> Result<[u64; N], TrainerError> + 'a;

/// Lets `of_shard` add up the gradients of each of this rank's shards, from no gradients on, and returns their sum,
/// with the figures of all shards by number. `head` is a value head whose gradient belongs to those of the model.
///
/// # Errors
/// What `of_shard` returns on any rank, and when gradients cannot be read.
pub(crate) fn sum_over_shards<const N: usize>(
    team: &Team,
    model: &Decoder,
    gradients: &mut Gradients,
    mut head: Option<&mut ValueHead>,
    shards: &[Vec<PackedBatch>],
    of_shard: &mut OfShard<'_, N>,
) -> Result<(ShardSum, Vec<[u64; N]>), TrainerError> {
    let mut pass = |shard: usize, batches: &[PackedBatch], gradients: &mut Gradients| {
        gradients.clear();
        if let Some(head) = &mut head {
            head.clear();
        }
        let figures = of_shard(shard, batches, gradients, head.as_deref_mut())?;
        let of_head = head.as_deref().map(|head| {
            let (weight, bias) = head.gradient();
            [weight, &[bias]].concat()
        });
        Ok::<_, TrainerError>((figures, of_head.unwrap_or_default()))
    };
    if let ([batches], 1) = (shards, team.shards().count()) {
        let (figures, _) = pass(0, batches, gradients)?;
        return Ok((ShardSum::Whole, vec![figures]));
    }
    let own = team.own_shards();
    let sum_own = || {
        let (mut tree, mut has_gradient) = (TreeSum::new(own.start), vec![false; gradients.len()]);
        let mut words = Vec::new();
        for (shard, batches) in own.zip(shards) {
            let (figures, of_head) = pass(shard, batches, gradients)?;
            words.extend(figures);
            let mut flat = Flat { values: tree.spare(), has_gradient: Vec::new() };
            flat.read(model, gradients, of_head)?;
            has_gradient.iter_mut().zip(&flat.has_gradient).for_each(|(any, has)| *any |= has);
            let is_present = flat.has_gradient.contains(&true);
            tree.push_shard(is_present.then_some(flat.values));
        }
        words.extend(has_gradient.iter().map(|has| u64::from(*has)));
        Ok(((tree, has_gradient), to_bytes(&words)))
    };
    let ((tree, mut has_gradient), all) = team.exchange(sum_own())?;
    let mut figures = Vec::with_capacity(team.shards().count());
    for (rank, bytes) in all.iter().enumerate() {
        let of_rank = team.shards().of_rank(rank, team.world().size()).len();
        let words: Vec<u64> = to_words(bytes).collect();
        let Some((measured, has)) = words.split_at_checked(N * of_rank).filter(|(_, has)| has.len() == gradients.len())
        else {
            let expected = format!("figures of {of_rank} shards");
            return Err(unreadable(rank, &format!("{} words", words.len()), &expected).into());
        };
        figures.extend_from_slice(measured.as_chunks::<N>().0);
        has_gradient.iter_mut().zip(has).for_each(|(any, has)| *any |= *has == 1);
    }
    Ok((ShardSum::Part { tree, has_gradient }, figures))
}

impl ShardSum {
    /// Replaces the gradients by the sum over all shards; a parameter that has none in any shard has none.
    ///
    /// # Errors
    /// When the ranks lose each other, or gradients cannot be written on one of them.
    pub(crate) fn finish(
        self,
        team: &Team,
        model: &Decoder,
        gradients: &mut Gradients,
        head: Option<&mut ValueHead>,
    ) -> Result<(), TrainerError> {
        let Self::Part { tree, has_gradient } = self else { return Ok(()) };
        let lengths: Vec<usize> = model.parameters().iter().map(|(_, shape)| shape.elem_count()).collect();
        let of_head = head.as_ref().map_or(0, |head| head.hidden_size() + 1);
        let blocks = Blocks::new(lengths.iter().sum::<usize>() + of_head);
        let (world, mut total) = (&**team.world(), vec![0.0; blocks.len()]);
        let own = blocks.owned(world.rank(), world.size());
        Exchange::new().reduce_scatter(world, team.shards(), blocks, &tree, &mut total[own])?;
        drop(tree);
        blocks.all_gather(world, &mut total)?;
        let write = || {
            gradients.clear();
            let mut rest = total.as_slice();
            for (index, (length, has_gradient)) in lengths.iter().zip(has_gradient).enumerate() {
                let (values, after) = rest.split_at(*length);
                if has_gradient {
                    model.set_gradient(gradients, index, values)?;
                }
                rest = after;
            }
            head.map_or(Ok(()), |head| head.set_gradient(rest))
        };
        team.agree(write().map_err(TrainerError::from))
    }
}

/// All gradients of a model as one vector: zeros where a parameter has none; the head's at the end.
struct Flat {
    values: Vec<f32>,
    has_gradient: Vec<bool>,
}

impl Flat {
    fn read(&mut self, model: &Decoder, gradients: &Gradients, of_head: Vec<f32>) -> Result<(), TrainerError> {
        for (index, (_, shape)) in model.parameters().into_iter().enumerate() {
            let gradient = model.gradient(gradients, index)?;
            self.has_gradient.push(gradient.is_some());
            match gradient {
                Some(gradient) => self.values.extend_from_slice(&values(&gradient)?),
                None => self.values.resize(self.values.len() + shape.elem_count(), 0.0),
            }
        }
        self.values.extend(of_head);
        Ok(())
    }
}
