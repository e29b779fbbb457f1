//! Measures the exchange of one step, and what a waiting rank costs:
//!
//! ```text
//! mpirun -n 2 exchange [MIB [REPETITIONS]]
//! ```
//!
//! Rank 0 prints a row: ranks, MiB, median and least milliseconds of reduce-scatter and of all-gather, and the CPU of
//! rank 0 while the last rank is three seconds late, in percent of a core. Without a launcher there is one rank.

use dapo_dist::{Blocks, DistError, Exchange, Options, Shards, TreeSum, World, gather, open, widen};
use std::time::{Duration, Instant};

const SHARDS: usize = 8;
const LATE: Duration = Duration::from_secs(3);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |argument| argument.parse());
    let (mib, repetitions) = (number(16)?, number(30)?.max(1));
    widen();
    let world = open(Options { deadline: Duration::from_mins(1), ..Options::default() })?;
    measure(&*world, mib, repetitions)?;
    world.finish()?;
    Ok(())
}

fn measure(world: &dyn World, mib: usize, repetitions: usize) -> Result<(), DistError> {
    let (rank, size) = (world.rank(), world.size());
    let values = mib << 18;
    let (shards, blocks) = (Shards::new(SHARDS.max(size.next_power_of_two()), size)?, Blocks::new(values));
    // The sum over this rank's shards, as a step has it before the exchange.
    let mut local = TreeSum::new(0);
    for node in shards.nodes(shards.of_rank(rank, size)) {
        local.push(node, Some((0..values).map(|value| (value % 1021) as f32 * 0.5 - rank as f32).collect()));
    }
    let (mut exchange, mut weights) = (Exchange::new(), vec![0.0; values]);
    let (mut scatter, mut all) = (Vec::new(), Vec::new());
    for _ in 0..=repetitions {
        world.phase("reduce-scatter");
        world.barrier()?;
        let start = Instant::now();
        exchange.reduce_scatter(world, shards, blocks, &local, &mut weights[blocks.owned(rank, size)])?;
        scatter.push(start.elapsed().as_secs_f64() * 1e3);
        world.phase("all-gather");
        world.barrier()?;
        let start = Instant::now();
        blocks.all_gather(world, &mut weights)?;
        all.push(start.elapsed().as_secs_f64() * 1e3);
    }

    world.phase("late rank");
    world.barrier()?;
    let (start, before) = (Instant::now(), cpu_seconds());
    if rank + 1 == size && size > 1 {
        std::thread::sleep(LATE);
    }
    world.barrier()?;
    let waiting = 100.0 * (cpu_seconds() - before) / start.elapsed().as_secs_f64();

    // A step takes as long as its slowest rank.
    let (scatter, all) = (slowest(world, &scatter)?, slowest(world, &all)?);
    if rank == 0 {
        let waiting = if size > 1 { format!("{waiting:.1}") } else { "-".to_owned() };
        let [(scatter, least_scatter), (all, least_all)] = [scatter, all];
        println!("| {size} | {mib} | {scatter:.1} ({least_scatter:.1}) | {all:.1} ({least_all:.1}) | {waiting} |");
    }
    Ok(())
}

/// Median and minimum over repetitions of the slowest rank's time; the first repetition, which allocates, is left out.
fn slowest(world: &dyn World, mine: &[f64]) -> Result<(f64, f64), DistError> {
    let bytes: Vec<u8> = mine.iter().flat_map(|time| time.to_le_bytes()).collect();
    let ranks = gather(world, &bytes)?;
    let mut times = vec![0.0_f64; mine.len()];
    for bytes in ranks {
        for (slowest, time) in times.iter_mut().zip(bytes.as_chunks().0) {
            *slowest = slowest.max(f64::from_le_bytes(*time));
        }
    }
    let mut times = times.split_off(1);
    times.sort_by(f64::total_cmp);
    Ok((times[times.len() / 2], times[0]))
}

/// Seconds of CPU that this process has used, to hundredths; 0 where the system does not say.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
