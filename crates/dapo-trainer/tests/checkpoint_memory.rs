//! What a checkpoint needs in memory while it is written and read.
#![allow(clippy::unwrap_used)]
#![allow(unsafe_code, reason = "a global allocator that counts")]

use dapo_data::tasks::{Split, addition_problems};
use dapo_data::{PromptStyle, encode_prompts};
use dapo_policy::{Decoder, ModelConfig};
use dapo_reward::{Accuracy, RewardSum};
use dapo_sampler::{GenBatch, SamplerConfig};
use dapo_trainer::{Trainer, TrainerConfig};
use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let in_use = IN_USE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        MOST.fetch_max(in_use, Ordering::Relaxed);
        // SAFETY: the caller's promises are handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) };
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes that were in use at a time during `f`, beyond those before it.
fn most(f: impl FnOnce()) -> usize {
    let before = IN_USE.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    f();
    MOST.load(Ordering::Relaxed) - before
}

/// A trainer whose model has many layers, so that one tensor is a small part of it.
fn trainer() -> Trainer {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/tiny-qwen3");
    let (policy, tokenizer) = dapo_policy::load(&tiny).unwrap();
    let policy = Decoder::random(ModelConfig { num_hidden_layers: 40, ..policy.config().clone() }, 1).unwrap();
    let problems = addition_problems(Split::Train, 4, 5);
    let prompts = encode_prompts(&problems, &tokenizer, &PromptStyle::default(), 64).unwrap().0;
    let rewards = RewardSum::new(vec![(1.0, Box::new(Accuracy::default()))]).unwrap();
    let sampler =
        SamplerConfig { train_batch: 1, gen_batch: GenBatch::Fixed(1), enabled: false, ..SamplerConfig::default() };
    let config = TrainerConfig { group_size: 2, max_new_tokens: 4, sampler, ..TrainerConfig::default() };
    Trainer::new(policy, tokenizer, prompts, rewards, config).unwrap()
}

#[test]
fn memory_holds_no_second_copy_of_weights_or_moments() {
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = dir.path().join("step-000001");
    let mut first = trainer();
    let weights = 4 * first.policy().num_parameters();
    let before = IN_USE.load(Ordering::Relaxed);
    first.step().unwrap();
    let left = IN_USE.load(Ordering::Relaxed).saturating_sub(before);
    assert!(left < weights / 4, "the step leaves {left} bytes; gradients have {weights}");
    let saving = most(|| first.save(&checkpoint, "base").unwrap());
    let mut second = trainer();
    let restoring = most(|| second.restore(&checkpoint).unwrap());
    second.save(&dir.path().join("again"), "base").unwrap();
    let read = |dir: &str, file: &str| std::fs::read(checkpoint.with_file_name(dir).join(file)).unwrap();
    for file in ["model/model.safetensors", "optimizer.safetensors"] {
        assert_eq!(read("step-000001", file), read("again", file), "{file}");
    }
    for (what, most) in [("saving", saving), ("restoring", restoring)] {
        assert!(most < weights / 4, "{what}: {most} bytes; the weights have {weights}");
    }
}
