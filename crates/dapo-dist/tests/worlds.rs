//! Operations of worlds of threads: what arrives where, and what is found out at the start.
#![allow(clippy::unwrap_used)]

use dapo_dist::{
    Dealing, DistError, Inbox, Solo, World, cpu, differences, gather, handshake, share, sum_counts, threads,
};
use proptest::prelude::*;
use std::time::Duration;

const DEADLINE: Duration = Duration::from_mins(1);

fn each<T: Send>(size: usize, rank: impl Fn(&dyn World) -> Result<T, DistError> + Sync) -> Vec<T> {
    threads::run(size, DEADLINE, rank).into_iter().map(Result::unwrap).collect()
}

/// The errors of a function that fails on all ranks, which finish together.
fn errors<T>(size: usize, rank: impl Fn(&dyn World) -> Result<T, DistError> + Sync) -> Vec<String> {
    each(size, |world| Ok(rank(world).err().unwrap().to_string()))
}

fn message(from: usize, to: usize) -> Vec<u8> {
    vec![(16 * from + to) as u8; (from * 7 + to * 3) % 11]
}

#[test]
fn every_message_arrives_where_it_belongs() {
    for size in [1, 2, 3, 8] {
        let ranks = each(size, |world| {
            let mine = world.rank();
            let messages: Vec<_> = (0..size).map(|to| message(mine, to)).collect();
            let mut arrived = vec![vec![9; 3]; size];
            let send: Vec<_> = messages.iter().map(Vec::as_slice).collect();
            world.all_to_all(&send, &mut arrived.iter_mut().map(Inbox::Any).collect::<Vec<_>>())?;
            let mut text = if mine == size - 1 { b"from the last".to_vec() } else { b"old".to_vec() };
            world.broadcast(size - 1, &mut text)?;
            world.barrier()?;
            Ok((arrived, text, gather(world, &message(mine, mine))?))
        });
        for (rank, (arrived, text, gathered)) in ranks.into_iter().enumerate() {
            assert_eq!(arrived, (0..size).map(|from| message(from, rank)).collect::<Vec<_>>());
            assert_eq!(text, b"from the last");
            assert_eq!(gathered, (0..size).map(|from| message(from, from)).collect::<Vec<_>>());
        }
    }
}

#[test]
fn large_broadcasts_are_the_same_as_small_ones() {
    for (size, length) in [(1, 5), (2, 0), (4, 3), (4, 1001), (8, 100_000)] {
        let bytes: Vec<u8> = (0..length).map(|byte| (byte % 251) as u8).collect();
        for root in [0, size - 1] {
            let shared = each(size, |world| {
                let mut mine = if world.rank() == root { bytes.clone() } else { vec![1, 2] };
                share(world, root, &mut mine)?;
                Ok(mine)
            });
            assert!(shared.iter().all(|shared| *shared == bytes), "{size} ranks, {length} bytes");
        }
    }
}

#[test]
fn counts_are_summed_exactly() {
    let big = (1_u64 << 53) + 1;
    assert_eq!(each(3, |world| sum_counts(world, &[big, world.rank() as u64])), vec![vec![3 * big, 3]; 3]);
    for error in errors(2, |world| sum_counts(world, &[u64::MAX - 1 + world.rank() as u64])) {
        assert_eq!(error, format!("what rank 1 sent is a count of {}, expected a sum of at most 2^64 - 1", u64::MAX));
    }
}

#[test]
fn differences_are_named_on_every_rank() {
    let items = |rank: usize| {
        let settings = if rank == 2 { "bbbb" } else { "aaaa" };
        let mut items = vec![("version", "0.1.0".to_owned()), ("settings", settings.to_owned()), ("cpu", cpu())];
        if rank == 3 {
            items.push(("weights", "\u{1b}[31m".to_owned()));
        }
        items
    };
    each(2, |world| handshake(world, &items(world.rank())));
    let named = errors(4, |world| {
        assert_eq!(differences(world, &items(world.rank()))?.len(), 2);
        handshake(world, &items(world.rank()))
    });
    assert_eq!(named, [r#"settings of rank 2 is "bbbb", expected "aaaa" as on rank 0 (and 1 more)"#; 4]);
    let named = errors(2, |world| handshake(world, &items(3 * world.rank())));
    let expected = r#"weights of rank 1 is "\u{1b}[31m", expected "" as on rank 0"#;
    assert_eq!(named, [expected; 2]);
}

#[test]
fn a_world_of_one_needs_nobody() {
    let (mut any, mut exact) = (Vec::new(), [0; 2]);
    Solo.all_to_all(&[b"ab"], &mut [Inbox::Any(&mut any)]).unwrap();
    Solo.all_gather(b"cd", &mut [Inbox::Exact(&mut exact)]).unwrap();
    assert_eq!((any.as_slice(), &exact), (&b"ab"[..], b"cd"));
    assert!(matches!(Solo.all_gather(b"c", &mut [Inbox::Exact(&mut exact)]), Err(DistError::Length { .. })));
    assert!(Solo.broadcast(1, &mut Vec::new()).is_err());
    Solo.finish().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn draws_are_dealt_once_and_gathered_in_order(start in 0..1000_u64, count in 0..40_u64, piece in 1..6_u64, log in 0..4_u32) {
        let (size, dealing, draws) = (1 << log, Dealing::new(piece).unwrap(), start..start + count);
        let all: Vec<_> = draws.clone().map(|draw| (draw, draw.to_string().into_bytes())).collect();
        let ranks = each(size, |world| {
            let mine = dealing.mine(world, draws.clone());
            let made: Vec<_> = mine.iter().map(|draw| (*draw, draw.to_string().into_bytes())).collect();
            Ok((mine.len() as u64, dealing.gather(world, draws.clone(), &made)?))
        });
        let most = count.div_ceil(piece).div_ceil(size as u64) * piece + piece;
        prop_assert!(ranks.iter().all(|(mine, gathered)| *mine <= most && *gathered == all));
    }
}

#[test]
fn draws_that_are_lacking_or_foreign_are_named() {
    let dealing = Dealing::new(1).unwrap();
    let outcome = |made: &'static [u64]| {
        let named = errors(2, |world| {
            let mine = if world.rank() == 1 { made } else { &[0, 2] };
            let mine: Vec<_> = mine.iter().map(|draw| (*draw, Vec::new())).collect();
            dealing.gather(world, 0..4, &mine)
        });
        assert_eq!(named[0], named[1]);
        named[0].clone()
    };
    assert_eq!(outcome(&[1]), "what rank 1 sent is all but draw 3, expected its draws among 0 to 4");
    assert_eq!(outcome(&[1, 1, 3]), "what rank 1 sent is draw 1 twice, expected each draw once");
    assert_eq!(outcome(&[1, 2]), "what rank 1 sent is draw 2, expected the draws of rank 1 among 0 to 4");
    assert_eq!(outcome(&[1, 5]), "what rank 1 sent is draw 5, expected the draws of rank 1 among 0 to 4");
    assert!(Dealing::new(0).is_err());
}
