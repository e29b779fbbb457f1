//! `dapo export`: a trained model as a Hugging Face folder.

use crate::args::{TrustArgs, load, warn_if_none};
use crate::talk::Talk;
use crate::terminal::Stdout;
use anyhow::{Context, Result, bail};
use candle_core::{DType, Tensor};
use dapo_console::Meter;
use dapo_policy::{PolicyError, StopTokens, save_checkpoint_with};
use dapo_run::model_card;
use std::cell::Cell;
use std::fs;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The folder in `--out` that holds an export until it is whole.
const PART: &str = ".dapo-export.part";

/// Write a model as a Hugging Face folder, adapters merged.
///
/// transformers, vLLM and llama.cpp's converter read the folder. Its model card is README.md. For a run or a checkpoint,
/// it names the base model, the training data, the settings that differ from the defaults, and the checkpoint's
/// evaluation.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  dapo export runs/mine --out exported
  dapo export runs/mine/checkpoints/step-50 --dtype bf16 --out exported")]
pub(crate) struct Export {
    /// A run folder (its last checkpoint), a checkpoint, an adapter's folder, a Hugging Face folder or a GGUF file.
    model: String,
    /// The folder to write; it must be new or empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Type of the weights.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: WeightType,
    #[command(flatten)]
    trust: TrustArgs,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum WeightType {
    F32,
    Bf16,
    F16,
}

pub(crate) fn run(args: &Export, talk: Talk) -> Result<()> {
    refuse_to_overwrite(&args.out)?;
    let (policy, tokenizer) = load(&args.model, args.trust, talk)?;
    let dtype = match args.dtype {
        WeightType::F32 => DType::F32,
        WeightType::Bf16 => DType::BF16,
        WeightType::F16 => DType::F16,
    };
    let meter = Meter::start(talk.voice(), "export");
    let count = policy.config().parameter_shapes().len();
    let converted = Cell::new(0_usize);
    let convert = |place| -> Result<Tensor, PolicyError> {
        let number = converted.get() + 1;
        converted.set(number);
        meter.set(number as f64, count as f64, &format!("writing tensor {number} of {count}"));
        Ok(policy.tensor(place)?.to_dtype(dtype)?)
    };
    warn_if_none(&StopTokens::of(policy.config(), &tokenizer), talk);
    write_whole(&args.out, |dir| {
        save_checkpoint_with(dir, policy.config(), &tokenizer, dtype, convert)?;
        let card = dir.join("README.md");
        fs::write(&card, model_card(&args.model, &name(&args.out))).with_context(|| card.display().to_string())
    })?;
    drop(meter);
    talk.detail(format_args!("{count} tensors written"));
    writeln!(Stdout::new(), "{}", args.out.display())?;
    Ok(())
}

/// What the model is called: as its folder.
fn name(out: &Path) -> String {
    let whole = out.canonicalize().unwrap_or_else(|_| out.to_owned());
    whole.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy().into_owned())
}

/// Fills a folder: all its files come to be at their places, or none. What an interruption leaves is removed with the next
/// export.
fn write_whole(dir: &Path, write: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let part = dir.join(PART);
    let is_new = !dir.exists();
    let moved = || -> Result<()> {
        let failed = || part.display().to_string();
        remove_if_exists(&part).with_context(failed)?;
        write(&part)?;
        for entry in fs::read_dir(&part).with_context(failed)? {
            let entry = entry.with_context(failed)?;
            fs::rename(entry.path(), dir.join(entry.file_name())).with_context(failed)?;
        }
        fs::remove_dir(&part).with_context(failed)
    };
    moved().inspect_err(|_| {
        // The error that is shown is the first one.
        let _ = fs::remove_dir_all(&part);
        if is_new {
            let _ = fs::remove_dir(dir);
        }
    })
}

fn remove_if_exists(dir: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(dir).or_else(|error| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) })
}

/// A folder with an export that was interrupted counts as free: its files are written again.
fn refuse_to_overwrite(dir: &Path) -> Result<()> {
    match fs::read_dir(dir) {
        Ok(mut entries) => {
            if entries.next().is_some() && !dir.join(PART).is_dir() {
                bail!("{} is not empty, expected a new or empty folder for --out", dir.display());
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{}, given for --out", dir.display())),
    }
}
