//! What trackers hold, read by readers that share nothing with the writers; TensorBoard's own reads it too, where it is.
#![allow(clippy::unwrap_used)]

use dapo_run::{Layer, Run, RunFolder, resolve, settings_of};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

const BASE: [&str; 14] = [
    "seed=3",
    "model.path=builtin:tiny",
    "data.train=builtin:addition",
    "data.validation=builtin:addition",
    "rollout.group_size=4",
    "rollout.max_new_tokens=40",
    "sampler.train_batch=3",
    "optimizer.lr=1e-4",
    "optimizer.warmup_steps=0",
    "eval.limit=4",
    "eval.samples=2",
    "eval.every=2",
    "output.checkpoint_every=2",
    "output.trackers=[\"tensorboard\", \"csv\"]",
];

fn create(dir: &Path, extra: &[&str]) -> Run {
    let layers: Vec<Layer> = BASE.iter().chain(extra).map(|setting| Layer::Override((*setting).to_owned())).collect();
    Run::create(&resolve(&layers).unwrap(), dir).unwrap()
}

fn resume(dir: &Path, changes: &[&str]) -> Run {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    Run::resume(&settings_of(dir, &changes).unwrap(), dir).unwrap()
}

/// Makes the run's steps; gives the warnings.
fn finish(run: &mut Run) -> Vec<String> {
    run.evaluate_at_start().unwrap();
    let mut faults = Vec::new();
    while !run.is_finished() {
        faults.extend(run.step().unwrap().step().unwrap().faults.clone());
    }
    faults
}

/// Of each record in order: the step, and the figures by name.
type Records = Vec<(u64, BTreeMap<String, f32>)>;

/// CRC-32C a bit at a time, as TFRecord files mask it.
fn masked_crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    let crc = !crc;
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The fields of a protocol buffer as (number, varint or length, bytes).
fn fields(message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let (mut found, mut at) = (Vec::new(), 0);
    let varint = |at: &mut usize| {
        let (mut value, mut shift) = (0_u64, 0);
        loop {
            let byte = message[*at];
            *at += 1;
            value |= u64::from(byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return value;
            }
        }
    };
    while at < message.len() {
        let key = varint(&mut at);
        let (value, length) = match key % 8 {
            0 => (varint(&mut at), 0),
            1 => (0, 8),
            2 => {
                let length = varint(&mut at);
                (length, length as usize)
            }
            5 => (0, 4),
            other => panic!("wire type {other}"),
        };
        found.push((key / 8, value, &message[at..at + length]));
        at += length;
    }
    found
}

fn events(dir: &Path) -> Records {
    let file = fs::read(dir.join("trackers/events.out.tfevents.dapo")).unwrap();
    let number = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let (mut records, mut at, mut times) = (Vec::new(), 0, Vec::new());
    while at < file.len() {
        let length = number(at) as usize;
        assert_eq!((number(at + 4), number(at + 8)), (0, masked_crc(&file[at..at + 8])));
        let event = &file[at + 12..at + 12 + length];
        assert_eq!(number(at + 12 + length), masked_crc(event));
        at += length + 16;
        let fields_of_event = fields(event);
        let field = |number| fields_of_event.iter().find(|field| field.0 == number);
        times.push(f64::from_le_bytes(field(1).unwrap().2.try_into().unwrap()));
        let Some((_, _, summary)) = field(5) else {
            assert_eq!((records.len(), field(3).unwrap().2), (0, &b"brain.Event:2"[..]));
            continue;
        };
        let values = fields(summary).into_iter().map(|(number, _, value)| {
            assert_eq!(number, 1);
            let parts = fields(value);
            let number = f32::from_le_bytes(parts[1].2.try_into().unwrap());
            assert_eq!((parts[0].0, parts[1].0), (1, 2));
            (String::from_utf8(parts[0].2.to_vec()).unwrap(), number)
        });
        records.push((field(2).unwrap().1, values.collect()));
    }
    assert!(times.is_sorted() && times[0] > 1.7e9, "{times:?}");
    records
}

fn table(dir: &Path) -> Records {
    let text = fs::read_to_string(dir.join("trackers/metrics.csv")).unwrap();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().split(',').collect();
    assert_eq!(columns[..2], ["step", "time"]);
    let row = |line: &str| {
        let cells: Vec<&str> = line.split(',').collect();
        assert_eq!(cells.len(), columns.len(), "{line}");
        let figures = columns.iter().zip(&cells).skip(2).filter(|(_, cell)| !cell.is_empty());
        let figures = figures.map(|(column, cell)| ((*column).to_owned(), cell.parse().unwrap()));
        (cells[0].parse().unwrap(), figures.collect())
    };
    lines.map(row).collect()
}

fn lines(dir: &Path, log: &str) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(dir.join(log)).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Checks that both trackers hold what the logs do, each step and evaluation once and in order.
#[track_caller]
fn assert_as_the_logs(dir: &Path) {
    let (events, table) = (events(dir), table(dir));
    assert_eq!(events, table);
    let is_evaluation = |record: &&(u64, BTreeMap<String, f32>)| record.1.contains_key("eval/avg_at_k");
    let steps: Vec<&(u64, BTreeMap<String, f32>)> = events.iter().filter(|record| !is_evaluation(record)).collect();
    let evaluations: Vec<&(u64, BTreeMap<String, f32>)> = events.iter().filter(is_evaluation).collect();
    assert!(events.iter().map(|record| record.0).is_sorted());
    for (log, records, name, pointer) in [
        (RunFolder::METRICS, &steps, "train/reward", "/reward"),
        (RunFolder::METRICS, &steps, "train/completions/mean_length", "/completions~1mean_length"),
        (RunFolder::METRICS, &steps, "train/rewards/accuracy/mean", "/rewards~1accuracy~1mean"),
        (RunFolder::METRICS, &steps, "train/dynamic_sampling/generated", "/dynamic_sampling~1generated"),
        (RunFolder::TIMINGS, &steps, "train/step_time", "/step_time"),
        (RunFolder::EVALUATIONS, &evaluations, "eval/avg_at_k", "/avg_at_k/mean"),
        (RunFolder::EVALUATIONS, &evaluations, "eval/avg_at_k/high", "/avg_at_k/high"),
        (RunFolder::EVALUATIONS, &evaluations, "eval/pass_at_2", "/pass_at/1/mean"),
    ] {
        let expected: Vec<(u64, Option<f32>)> = lines(dir, log)
            .iter()
            .map(|line| {
                (line["step"].as_u64().unwrap(), line.pointer(pointer).unwrap().as_f64().map(|value| value as f32))
            })
            .collect();
        let found: Vec<(u64, Option<f32>)> =
            records.iter().map(|(step, figures)| (*step, figures.get(name).copied())).collect();
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn trackers_hold_every_step_and_evaluation_once_however_often_the_run_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let mut run = create(&dir, &["train.steps=5"]);
    run.evaluate_at_start().unwrap();
    for _ in 0..3 {
        run.step().unwrap();
    }
    assert_as_the_logs(&dir);
    drop(run);
    // Stopped after step 3 without a checkpoint of it, in the middle of a record.
    for file in ["events.out.tfevents.dapo", "metrics.csv"] {
        let file = dir.join("trackers").join(file);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - 5]).unwrap();
    }
    let mut run = resume(&dir, &[]);
    assert_eq!(run.trainer().steps(), 2);
    assert_eq!(finish(&mut run), [] as [String; 0]);
    drop(run);
    assert_as_the_logs(&dir);
    assert_eq!(events(&dir).iter().map(|record| record.0).collect::<Vec<_>>(), [0, 1, 2, 2, 3, 4, 4, 5, 5]);
    // The evaluation after step 5 is not due in a longer run.
    finish(&mut resume(&dir, &["train.steps=6"]));
    assert_as_the_logs(&dir);
    assert_eq!(events(&dir).iter().map(|record| record.0).collect::<Vec<_>>(), [0, 1, 2, 2, 3, 4, 4, 5, 6, 6]);
    let manifest = fs::read_to_string(dir.join("checkpoints/step-6/manifest.json")).unwrap();
    assert!(!manifest.contains("trackers"), "{manifest}");
}

#[test]
fn a_tracker_that_cannot_be_written_warns_once_and_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let mut run = create(&dir, &["train.steps=3"]);
    let events_file = dir.join("trackers/events.out.tfevents.dapo");
    fs::create_dir_all(&events_file).unwrap();
    fs::write(dir.join("trackers/metrics.csv"), "a table of somebody else\n").unwrap();
    let faults = finish(&mut run);
    assert_eq!(faults.len(), 2, "{faults:?}");
    for (fault, (file, why)) in faults.iter().zip([
        ("events.out.tfevents.dapo", ""),
        ("metrics.csv", "not written by a run, expected a table of a run or no file"),
    ]) {
        let (start, end) = ("output.trackers: ", "; training continues without this tracker");
        assert!(fault.starts_with(start) && fault.ends_with(end), "{fault}");
        assert!(fault.contains(file) && fault.contains(why), "{fault}");
    }
    assert_eq!(fs::read_to_string(dir.join("trackers/metrics.csv")).unwrap(), "a table of somebody else\n");
    assert_eq!(lines(&dir, RunFolder::METRICS).len(), 3);
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_ends_a_tracker_and_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    let mut run = create(&dir, &["train.steps=2", "output.trackers=tensorboard"]);
    fs::create_dir_all(dir.join("trackers")).unwrap();
    std::os::unix::fs::symlink("/dev/full", dir.join("trackers/events.out.tfevents.dapo")).unwrap();
    let faults = finish(&mut run);
    assert!(faults.len() == 1 && faults[0].contains("No space left"), "{faults:?}");
    assert_eq!(lines(&dir, RunFolder::METRICS).len(), 2);
}

/// Set `DAPO_TENSORBOARD` to a Python that has the package `tensorboard`; `.ci/run` does.
#[test]
#[ignore = "needs TensorBoard's Python package: DAPO_TENSORBOARD names the interpreter"]
fn tensorboard_reads_what_was_written() {
    let python = std::env::var("DAPO_TENSORBOARD").expect("DAPO_TENSORBOARD is not set");
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("run");
    finish(&mut create(&dir, &["train.steps=3"]));
    finish(&mut resume(&dir, &["train.steps=4"]));
    let script = "
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'scalars': 0, 'tensors': 0})
events.Reload()
print(json.dumps({tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()['scalars']}))
";
    let output = Command::new(python).arg("-c").arg(script).arg(dir.join("trackers")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let read: BTreeMap<String, Vec<(u64, f64)>> = serde_json::from_slice(&output.stdout).unwrap();
    let mut expected: BTreeMap<String, Vec<(u64, f64)>> = BTreeMap::new();
    for (step, figures) in events(&dir) {
        for (name, value) in figures {
            expected.entry(name).or_default().push((step, f64::from(value)));
        }
    }
    assert!(expected.len() > 40, "{expected:?}");
    assert_eq!(read, expected);
}
