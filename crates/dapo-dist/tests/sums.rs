//! Sums have the same bits at any number of ranks.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Gradients, Outcome, gradients, step};
use dapo_dist::{Blocks, DistError, Exchange, Shards, Solo, TreeSum, threads};
use proptest::{collection::vec, prelude::*};
use std::time::Duration;

const DEADLINE: Duration = Duration::from_mins(1);

/// The recursive definition.
fn tree(gradients: &[Option<Vec<f32>>]) -> Option<Vec<f32>> {
    if let [gradient] = gradients {
        return gradient.clone();
    }
    let (left, right) = gradients.split_at(gradients.len() / 2);
    let nan = |sum: f32| if sum.is_nan() { f32::NAN } else { sum };
    match (tree(left), tree(right)) {
        (Some(left), Some(right)) => Some(left.iter().zip(right).map(|(x, y)| nan(x + y)).collect()),
        (left, right) => left.or(right),
    }
}

fn value() -> impl Strategy<Value = f32> {
    prop_oneof![
        6 => -1e3_f32..1e3,
        2 => any::<u32>().prop_map(f32::from_bits),
        1 => Just(-0.0),
        1 => Just(0.0),
        1 => Just(f32::NAN),
        1 => Just(f32::INFINITY),
    ]
}

/// Up to 16 shards with up to 40 values, and values in a block.
fn case() -> impl Strategy<Value = (Gradients, usize, usize)> {
    (0..5_u32, 0..40_usize, 1..9_usize).prop_flat_map(|(log, len, block)| {
        let gradients = vec(prop::option::weighted(0.7, vec(value(), len)), 1 << log);
        (gradients, Just(len), Just(block))
    })
}

fn all_equal(size: usize, gradients: &Gradients, len: usize, block: usize) -> Outcome {
    let outcomes = threads::run(size, DEADLINE, |world| step(world, gradients, len, block));
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]), "ranks differ at {size}");
    outcomes[0].clone()
}

#[test]
fn one_rank_gets_all_blocks() {
    let (len, value) = (1000, |place: usize| place as f32 * 0.5);
    for (size, to) in [(1, 0), (2, 1), (4, 2), (8, 0)] {
        let gathered = threads::run(size, DEADLINE, |world| {
            let blocks = Blocks::with_size(len, 300)?;
            let own: Vec<f32> = blocks.owned(world.rank(), size).map(value).collect();
            blocks.gather(world, to, &own)
        });
        for (rank, gathered) in gathered.into_iter().enumerate() {
            let expected = (rank == to).then(|| (0..len).map(value).collect::<Vec<_>>());
            assert_eq!(gathered.unwrap(), expected, "rank {rank} of {size}");
        }
    }
    let error = Blocks::new(1).gather(&Solo, 1, &[0.0]).unwrap_err().to_string();
    assert_eq!(error, "the rank to gather to is 1, expected below 1");
}

proptest! {
    // Each case starts up to 18 threads, which exchange some 50 messages.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bits_do_not_depend_on_the_number_of_ranks((gradients, len, block) in case()) {
        let alone = step(&Solo, &gradients, len, block).unwrap();
        let expected = tree(&gradients).unwrap_or_else(|| vec![0.0; len]);
        prop_assert_eq!(&alone.total, &expected.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
        prop_assert_eq!(&alone.counts, &[gradients.iter().flatten().count() as u64, gradients.len() as u64]);
        for size in [1, 2, 3, 4, 8].into_iter().filter(|size| *size <= gradients.len()) {
            prop_assert_eq!(&all_equal(size, &gradients, len, block), &alone, "{} ranks", size);
        }
    }

    #[test]
    fn items_and_blocks_are_divided_without_rest(items in 0..200_usize, log in 0..4_u32, size in 1..9_usize) {
        let shards = Shards::new(1 << (log + 3), size).unwrap();
        let joined = |ranges: Vec<std::ops::Range<usize>>| {
            ranges.iter().try_fold(0, |end, range| (range.start == end).then_some(range.end))
        };
        prop_assert_eq!(joined((0..shards.count()).map(|s| shards.items(s, items)).collect()), Some(items));
        prop_assert_eq!(joined((0..size).map(|r| shards.of_rank(r, size)).collect()), Some(shards.count()));
        let blocks = Blocks::with_size(items, 7).unwrap();
        prop_assert_eq!(joined((0..size).map(|r| blocks.owned(r, size)).collect()), Some(items));
    }
}

#[test]
fn long_vectors_of_odd_length_have_the_same_bits() {
    let (len, gradients) = (3 * Blocks::VALUES + 12_345, gradients(8, 3 * Blocks::VALUES + 12_345));
    let alone = step(&Solo, &gradients, len, Blocks::VALUES).unwrap();
    for size in [2, 4, 5, 8] {
        assert_eq!(all_equal(size, &gradients, len, Blocks::VALUES), alone, "{size} ranks");
    }
}

#[test]
fn one_shard_keeps_the_bits_of_its_gradient() {
    let gradient = vec![-0.0, f32::from_bits(0xffc0_1234), 1.5];
    let bits: Vec<u32> = gradient.iter().map(|value| value.to_bits()).collect();
    assert_eq!(step(&Solo, &vec![Some(gradient)], 3, 2).unwrap().total, bits);
}

#[test]
fn vectors_that_do_not_fit_are_refused_by_name() {
    let (shards, blocks) = (Shards::new(2, 1).unwrap(), Blocks::new(3));
    let sum = |gradients: &[&[f32]]| {
        let mut sum = TreeSum::new(0);
        for gradient in gradients {
            sum.push_shard(Some(gradient.to_vec()));
        }
        sum
    };
    let error = |local: &TreeSum, total: &mut [f32]| {
        Exchange::new().reduce_scatter(&Solo, shards, blocks, local, total).unwrap_err().to_string()
    };
    let total = &mut [0.0; 3];
    assert_eq!(error(&sum(&[&[1.0; 3]]), total), "the local sum is shards 0 to 1, expected shards 0 to 2");
    assert_eq!(error(&sum(&[&[1.0; 2], &[1.0; 2]]), total), "the length of a gradient is 2, expected 3");
    assert_eq!(error(&sum(&[&[1.0; 3], &[1.0; 3]]), &mut [0.0; 2]), "the length of the total is 2, expected 3");
    assert!(matches!(Blocks::new(3).all_gather(&Solo, &mut [0.0; 4]), Err(DistError::Argument { .. })));
}
