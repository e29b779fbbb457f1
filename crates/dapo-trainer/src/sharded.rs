//! Gradients of virtual shards, summed in one tree at any number of ranks, and the update by them.

use crate::error::TrainerError;
use crate::optimizer::AdamW;
use crate::pack::PackedBatch;
use crate::team::{Team, to_bytes, to_words, unreadable};
use dapo_dist::{Blocks, Exchange, TreeSum};
use dapo_kernels::adamw::AdamWStep;
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
    /// Makes an update by the sum over all shards, and returns the norm of the gradients before clipping. A parameter that
    /// has no gradient in any shard stays as it is.
    ///
    /// Where the optimizer's moments are divided, each rank updates the values that it owns, and takes the others' from the
    /// ranks that own them: rounded ones, where the f32 values are divided, too.
    ///
    /// # Errors
    /// [`TrainerError::NotFinite`] when the norm is not finite; then nothing has changed. When the ranks lose each other, or
    /// one of them fails.
    pub(crate) fn update(
        self,
        team: &Team,
        model: &mut Decoder,
        optimizer: &mut AdamW,
        gradients: &mut Gradients,
        mut head: Option<&mut ValueHead>,
        lr: f64,
    ) -> Result<f64, TrainerError> {
        let of_head = head.as_ref().map_or(0, |head| head.hidden_size() + 1);
        if let Self::Part { tree, has_gradient } = self {
            let mut vector = Vector::scatter(team, model, of_head, &tree)?;
            drop(tree);
            if optimizer.divided().is_some() {
                return vector.update(team, model, optimizer, &has_gradient, head, lr);
            }
            vector.blocks.all_gather(&**team.world(), &mut vector.values)?;
            team.agree(vector.write_gradients(model, &has_gradient, gradients, head.as_deref_mut()))?;
        }
        team.agree(optimizer.update_with_head(model, head, gradients, lr))
    }
}

/// The gradients of all parameters, and of a head after them, as one vector. A rank has those of the blocks that it owns.
struct Vector {
    blocks: Blocks,
    values: Vec<f32>,
    /// Of each parameter.
    lengths: Vec<usize>,
}

impl Vector {
    fn scatter(team: &Team, model: &Decoder, of_head: usize, sum: &TreeSum) -> Result<Self, TrainerError> {
        let lengths: Vec<usize> = model.parameters().iter().map(|(_, shape)| shape.elem_count()).collect();
        let blocks = Blocks::new(lengths.iter().sum::<usize>() + of_head);
        let (world, mut values) = (&**team.world(), vec![0.0; blocks.len()]);
        let own = blocks.owned(world.rank(), world.size());
        Exchange::new().reduce_scatter(world, team.shards(), blocks, sum, &mut values[own])?;
        Ok(Self { blocks, values, lengths })
    }

    /// Updates what this rank owns, and takes the rest from the others.
    fn update(
        mut self,
        team: &Team,
        model: &mut Decoder,
        optimizer: &mut AdamW,
        has_gradient: &[bool],
        head: Option<&mut ValueHead>,
        lr: f64,
    ) -> Result<f64, TrainerError> {
        let world = &**team.world();
        let own = self.blocks.owned(world.rank(), world.size());
        let norm = self.blocks.sum_of_squares(world, &self.values[own])?.sqrt();
        let step = optimizer.clipped_step(norm, lr)?;
        let Some(owned) = optimizer.divided() else {
            return Err(TrainerError::setting("moments", &"whole", "divided among ranks"));
        };
        let updated = owned.update(model, has_gradient, &mut self.values, &step);
        let written = team.agree(updated).and_then(|()| {
            owned.share(world, &mut self.values)?;
            team.agree(self.write_weights(model, owned.has_weights(), has_gradient, head, &step))
        });
        optimizer.count(written.is_ok());
        written.map(|()| norm)
    }

    fn write_weights(
        &self,
        model: &mut Decoder,
        are_rounded: bool,
        has_gradient: &[bool],
        head: Option<&mut ValueHead>,
        step: &AdamWStep,
    ) -> Result<(), TrainerError> {
        let mut rest = self.values.as_slice();
        for (index, (length, has_gradient)) in self.lengths.iter().zip(has_gradient).enumerate() {
            let (values, after) = rest.split_at(*length);
            match (has_gradient, are_rounded) {
                (false, _) => {}
                (true, false) => model.set_parameter(index, values)?,
                (true, true) => model.set_parameter_rounded(index, values)?,
            }
            rest = after;
        }
        if let Some(head) = head {
            head.set_gradient(rest)?;
            head.adamw(step);
        }
        Ok(())
    }

    fn write_gradients(
        &self,
        model: &Decoder,
        has_gradient: &[bool],
        gradients: &mut Gradients,
        head: Option<&mut ValueHead>,
    ) -> Result<(), TrainerError> {
        gradients.clear();
        let mut rest = self.values.as_slice();
        for (index, (length, has_gradient)) in self.lengths.iter().zip(has_gradient).enumerate() {
            let (values, after) = rest.split_at(*length);
            if *has_gradient {
                model.set_gradient(gradients, index, values)?;
            }
            rest = after;
        }
        Ok(head.map_or(Ok(()), |head| head.set_gradient(rest))?)
    }
}

/// All gradients of a model as one vector: zeros where a parameter has none; the head's at the end.
struct Flat {
    values: Vec<f32>,
    has_gradient: Vec<bool>,
}

impl Flat {
    fn read(&mut self, model: &Decoder, gradients: &Gradients, of_head: Vec<f32>) -> Result<(), TrainerError> {
        self.values.reserve_exact(model.num_parameters() + of_head.len());
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
