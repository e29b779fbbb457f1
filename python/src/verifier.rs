//! What Python calls.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use dapo_reward::{Gold, Profile, Side, SoftOverlong, Verdict, Verification, VerifyConfig, extract_answer};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::arguments::{Golds, Text};

/// Works without the GIL; a panic becomes a `RuntimeError`.
fn detached<T: Send>(py: Python<'_>, work: impl FnOnce() -> T + Send) -> PyResult<T> {
    py.detach(|| catch_unwind(AssertUnwindSafe(work)))
        .map_err(|_| PyRuntimeError::new_err("the verifier panicked; this is a fault of dapo_verifier"))
}

fn profile(name: &str) -> PyResult<Profile> {
    name.parse().map_err(|error| PyValueError::new_err(format!("profile: {error}")))
}

fn config(name: &str, precision: i64) -> PyResult<VerifyConfig> {
    match u32::try_from(precision) {
        Ok(precision @ 1..=200) => Ok(VerifyConfig { profile: profile(name)?, precision }),
        _ => Err(PyValueError::new_err(format!("precision is {precision}, expected 1 to 200"))),
    }
}

/// The verdict by the first gold answer that is met, else by the first that can be read.
fn decide(golds: &[&Gold], completion: &str) -> Option<Verification> {
    let mut best: Option<Verification> = None;
    for gold in golds {
        let verification = gold.verify(completion);
        if verification.verdict == Verdict::Correct {
            return Some(verification);
        }
        let is_unread = |found: &Verification| found.verdict == Verdict::Unparsable(Side::Gold);
        if best.as_ref().is_none_or(|best| is_unread(best) && !is_unread(&verification)) {
            best = Some(verification);
        }
    }
    best
}

fn decide_one(golds: &Golds, completion: &str, config: &VerifyConfig) -> Option<Verification> {
    let golds: Vec<Gold> = golds.0.iter().map(|gold| Gold::new(gold, config)).collect();
    decide(&golds.iter().collect::<Vec<_>>(), completion)
}

/// Whether a completion is correct; `None` where no gold answer can be read.
fn correct(verification: Option<&Verification>) -> Option<bool> {
    match verification?.verdict {
        Verdict::Correct => Some(true),
        Verdict::Unparsable(Side::Gold) => None,
        Verdict::Incorrect | Verdict::OutOfFuel | Verdict::Unparsable(Side::Prediction) => Some(false),
    }
}

/// Whether `pred` gives one of the gold answers.
#[pyfunction]
#[pyo3(signature = (gold, pred, *, profile = "auto", precision = 6))]
pub(crate) fn verify(py: Python<'_>, gold: Golds, pred: Text, profile: &str, precision: i64) -> PyResult<bool> {
    let config = config(profile, precision)?;
    detached(py, || correct(decide_one(&gold, &pred.0, &config).as_ref()) == Some(true))
}

/// Verdict, side that cannot be read, answer found in `pred`, deciding rule, reason.
type Judgement = (&'static str, Option<&'static str>, Option<String>, &'static str, &'static str);

/// The verdict on `pred` with its evidence.
#[pyfunction]
#[pyo3(signature = (gold, pred, *, profile = "auto", precision = 6))]
pub(crate) fn judge(py: Python<'_>, gold: Golds, pred: Text, profile: &str, precision: i64) -> PyResult<Judgement> {
    let config = config(profile, precision)?;
    let verification = detached(py, || decide_one(&gold, &pred.0, &config))?;
    let found = verification.ok_or_else(|| PyValueError::new_err("gold is an empty list, expected an answer"))?;
    let side = match found.verdict {
        Verdict::Unparsable(Side::Gold) => Some("gold"),
        Verdict::Unparsable(Side::Prediction) => Some("pred"),
        Verdict::Correct | Verdict::Incorrect | Verdict::OutOfFuel => None,
    };
    let extracted = found.extracted.map(|extracted| extracted.text(&pred.0).to_owned());
    Ok((found.verdict.as_str(), side, extracted, found.rule.as_str(), found.reason))
}

/// Completions that a thread of its own is worth.
const PER_THREAD: usize = 64;

/// Whether each completion is correct; `None` where there is no gold answer, or none can be read.
#[pyfunction]
#[pyo3(signature = (golds, preds, *, profile = "auto", precision = 6))]
pub(crate) fn verify_batch(
    py: Python<'_>,
    golds: Vec<Option<Golds>>,
    preds: Vec<Text>,
    profile: &str,
    precision: i64,
) -> PyResult<Vec<Option<bool>>> {
    if golds.len() != preds.len() {
        let message = format!("{} golds for {} preds, expected as many", golds.len(), preds.len());
        return Err(PyValueError::new_err(message));
    }
    let config = config(profile, precision)?;
    detached(py, || {
        let mut known: HashMap<&str, Gold> = HashMap::new();
        for gold in golds.iter().flatten().flat_map(|golds| &golds.0) {
            known.entry(gold).or_insert_with(|| Gold::new(gold, &config));
        }
        let one = |golds: &Option<Golds>, pred: &Text| {
            let golds: Vec<&Gold> =
                golds.iter().flat_map(|golds| &golds.0).filter_map(|gold| known.get(&**gold)).collect();
            correct(decide(&golds, &pred.0).as_ref())
        };
        let mut results = vec![None; preds.len()];
        let threads = thread::available_parallelism().map_or(1, usize::from).min(preds.len() / PER_THREAD).max(1);
        let size = preds.len().div_ceil(threads).max(1);
        // Threads of its own, not a pool: a pool does not survive a fork of the interpreter.
        thread::scope(|scope| {
            let mut parts = results.chunks_mut(size).zip(golds.chunks(size).zip(preds.chunks(size)));
            let first = parts.next();
            let fill = |results: &mut [Option<bool>], golds: &[Option<Golds>], preds: &[Text]| {
                for (result, (golds, pred)) in results.iter_mut().zip(golds.iter().zip(preds)) {
                    *result = one(golds, pred);
                }
            };
            for (results, (golds, preds)) in parts {
                scope.spawn(move || fill(results, golds, preds));
            }
            if let Some((results, (golds, preds))) = first {
                fill(results, golds, preds);
            }
        });
        results
    })
}

/// The answer that `text` gives, as it stands there.
#[pyfunction]
#[pyo3(signature = (text, *, profile = "auto"))]
pub(crate) fn extract(py: Python<'_>, text: Text, profile: &str) -> PyResult<Option<String>> {
    let profile = self::profile(profile)?;
    detached(py, || extract_answer(&text.0, &profile).map(|found| found.text(&text.0).to_owned()))
}

/// DAPO's soft overlong punishment of a completion of `num_tokens`.
#[pyfunction]
#[pyo3(signature = (num_tokens, max_len = 20_480, cache_len = 4_096, *, penalty_factor = 1.0, floor = true))]
pub(crate) fn soft_overlong(
    num_tokens: usize,
    max_len: usize,
    cache_len: usize,
    penalty_factor: f64,
    floor: bool,
) -> PyResult<f64> {
    let config = SoftOverlong { max_len: Some(max_len), cache_len: Some(cache_len), penalty_factor, floor };
    config.validate().map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(config.penalty(num_tokens))
}
