//! Ranks that do not come, leave, or do something else: an error within the deadline that says who and where.
#![allow(clippy::unwrap_used)]

use dapo_dist::{DistError, EXIT_MISSING_RANK, Inbox, World, threads};
use std::{
    thread::{scope, sleep},
    time::{Duration, Instant},
};

const DEADLINE: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(3);

/// Runs one function per rank without any of the niceties of `threads::run`.
fn ranks<T: Send>(size: usize, deadline: Duration, rank: impl Fn(Box<dyn World>) -> T + Sync) -> Vec<T> {
    scope(|scope| {
        let rank = &rank;
        let start = |world| scope.spawn(move || rank(world));
        let threads: Vec<_> = threads::worlds(size, deadline).into_iter().map(start).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_rank_that_never_comes_is_named_within_the_deadline() {
    type Operation = fn(&dyn World) -> Result<(), DistError>;
    let operations: [(&str, Operation); 4] = [
        ("barrier", |world| world.barrier()),
        ("all-to-all", |world| world.all_to_all(&[&[1][..]; 3], &mut [Inbox::Own, Inbox::Own, Inbox::Own])),
        ("all-gather", |world| dapo_dist::gather(world, b"x").map(|_| ())),
        // Also the rank that only sends.
        ("broadcast", |world| world.broadcast(0, &mut vec![1])),
    ];
    for (name, operation) in operations {
        let errors = ranks(3, DEADLINE, |world| {
            world.phase("step 11: rollouts");
            world.barrier().unwrap();
            if world.rank() == 1 {
                // Late for good: it holds its world, and the others have given up when it comes.
                sleep(3 * DEADLINE);
                return world.barrier();
            }
            world.phase("step 12: gradients");
            let start = Instant::now();
            let result = operation(&*world);
            let took = start.elapsed();
            // A rank that came later is ended by the one that has waited long enough.
            assert!(took >= DEADLINE || matches!(result, Err(DistError::Aborted { .. })), "{took:?} {result:?}");
            assert!(took < DEADLINE + SLACK, "{took:?}");
            result
        });
        let late = format!(
            r#"rank 1 is silent for 0.5 s, expected "step 12: gradients" ({name} 2) as on rank 0; it was last in "step 11: rollouts""#
        );
        // The first to notice ends the others.
        let texts: Vec<_> = errors.iter().map(|result| result.as_ref().unwrap_err().to_string()).collect();
        assert!(texts.contains(&late) || texts.contains(&late.replace("rank 0;", "rank 2;")), "{texts:?}");
        assert!(matches!(errors[1], Err(DistError::Aborted { code: EXIT_MISSING_RANK, .. })), "{texts:?}");
    }
}

#[test]
fn several_missing_ranks_are_all_named() {
    let errors = ranks(4, DEADLINE, |world| {
        if world.rank() != 2 {
            sleep(3 * DEADLINE);
            return String::new();
        }
        world.barrier().unwrap_err().to_string()
    });
    let expected = r#"ranks 0, 1, 3 are silent for 0.5 s, expected "start" (barrier 1) as on rank 2"#;
    assert_eq!(errors[2], expected);
}

#[test]
fn heartbeats_keep_a_slow_rank_in_the_world() {
    // A busy machine may take its time between two heartbeats.
    let deadline = Duration::from_secs(1);
    let waited = ranks(3, deadline, |world| {
        let start = Instant::now();
        if world.rank() == 1 {
            while start.elapsed() < 3 * deadline {
                world.heartbeat();
                sleep(deadline / 50);
            }
        }
        world.barrier().unwrap();
        world.finish().unwrap();
        start.elapsed()
    });
    assert!(waited.iter().all(|waited| *waited >= 3 * deadline), "{waited:?}");
}

#[test]
fn a_rank_that_aborts_ends_the_others_at_once() {
    let deadline = Duration::from_mins(10);
    let errors = ranks(4, deadline, |world| {
        world.phase("step 3: rollouts");
        if world.rank() == 2 {
            world.abort(7);
        }
        world.barrier().unwrap_err().to_string()
    });
    let expected = r#"rank 2 ended the job with code 7; this rank was in "step 3: rollouts" (barrier 1)"#;
    assert!(errors.iter().all(|error| error == expected), "{errors:?}");
}

#[test]
fn a_rank_that_fails_or_panics_does_not_leave_the_others_waiting() {
    let deadline = Duration::from_mins(10);
    let results = threads::run(2, deadline, |world| match world.rank() {
        0 => world.barrier().and_then(|()| world.barrier()),
        _ => world.broadcast(9, &mut Vec::new()),
    });
    assert!(matches!(results[0], Err(DistError::Aborted { rank: 1, code: EXIT_MISSING_RANK, .. })), "{results:?}");
    assert_eq!(results[1].as_ref().unwrap_err().to_string(), "root is 9, expected below 2");

    let panicking = std::panic::catch_unwind(|| {
        threads::run(2, deadline, |world| {
            assert_eq!(world.rank(), 0, "rank 1 panics");
            world.barrier()
        })
    });
    assert!(panicking.is_err());
}

#[test]
fn ranks_that_do_different_things_notice() {
    let results = ranks(2, DEADLINE, |world| {
        world.phase("step 3: counts");
        let error = if world.rank() == 0 { world.barrier() } else { world.broadcast(0, &mut Vec::new()) };
        // Kept until both have looked.
        sleep(DEADLINE);
        error.unwrap_err().to_string()
    });
    let (here, there) = (r#""step 3: counts" (barrier 1)"#, r#""step 3: counts" (broadcast 1)"#);
    assert_eq!(results[0], format!("rank 1 is in {there}, expected {here} as on rank 0"));
    assert_eq!(results[1], format!("rank 0 is in {here}, expected {there} as on rank 1"));

    let results = ranks(2, DEADLINE, |world| {
        world.phase(if world.rank() == 0 { "step 3" } else { "step 4" });
        let error = world.barrier();
        sleep(DEADLINE);
        error.unwrap_err().to_string()
    });
    assert_eq!(results[0], r#"rank 1 is in "step 4" (barrier 1), expected "step 3" (barrier 1) as on rank 0"#);
}

#[test]
fn messages_of_an_unexpected_length_are_refused() {
    let results = ranks(2, DEADLINE, |world| {
        let mut room = [0; 4];
        let mine = vec![1; 4 - world.rank()];
        let mut inboxes = [Inbox::Own, Inbox::Own];
        inboxes[1 - world.rank()] = Inbox::Exact(&mut room);
        let result = world.all_gather(&mine, &mut inboxes);
        sleep(DEADLINE);
        result.map_err(|error| error.to_string())
    });
    let expected = r#"a message of rank 1 in "start" (all-gather 1) is 3 bytes, expected 4"#;
    assert_eq!(results[0], Err(expected.to_owned()));
}

#[test]
fn lists_need_one_entry_per_rank() {
    let errors = ranks(2, DEADLINE, |world| world.all_to_all(&[&[]], &mut []).unwrap_err().to_string());
    assert!(errors.iter().all(|error| error == "the number of messages is 1, expected 2, one per rank"), "{errors:?}");
}
