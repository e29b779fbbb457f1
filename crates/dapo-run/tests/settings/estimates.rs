//! What a run is said to need.

use crate::words;
use dapo_policy::{LayerMemory, ModelConfig, activation_bytes};
use dapo_run::{CostEstimate, DataSizes, Phases, estimate};
use serde_json::{Value, json};

fn model(fields: &Value) -> ModelConfig {
    let mut json = json!({"architectures": ["Qwen3ForCausalLM"], "tie_word_embeddings": true,
        "max_position_embeddings": 40_960});
    json.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    ModelConfig::from_json(&json, "config.json".as_ref()).unwrap()
}

fn qwen3_0_6b() -> ModelConfig {
    model(&json!({"vocab_size": 151_936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128}))
}

/// The tiny model, with heads as Qwen3 has them.
fn tiny() -> ModelConfig {
    model(&json!({"vocab_size": 32, "hidden_size": 128, "intermediate_size": 320, "num_hidden_layers": 3,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32}))
}

/// 8 layers of width 512.
fn middle() -> ModelConfig {
    model(&json!({"vocab_size": 32, "hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 64}))
}

fn of(model: &ModelConfig, layers: &[&str], longest_prompt: usize) -> CostEstimate {
    of_data(model, layers, DataSizes { longest_prompt: Some(longest_prompt), problems: None })
}

fn of_data(model: &ModelConfig, layers: &[&str], data: DataSizes) -> CostEstimate {
    estimate(&words(layers).unwrap().config, model, data)
}

fn part(estimate: &CostEstimate, name: &str) -> u64 {
    estimate.memory.parts.iter().find(|part| part.name == name).map_or(0, |part| part.bytes)
}

const MIB: u64 = 1 << 20;

#[test]
fn estimates_are_not_below_measured_peaks_and_near_them() {
    let shape = ["sampler.train_batch=4", "sampler.gen_batch=4"];
    let middle_run = [&shape[..], &["rollout.max_new_tokens=256"]].concat();
    let recomputing = [&middle_run[..], &["train.layer_memory=recompute"]].concat();
    let keeping = |mib| [&middle_run[..], &["sampler.dynamic=false", mib]].concat();
    let none = "rollout.keep_activations_mib=0";
    // Peak resident memory of two steps whose completions all have full length.
    for (name, model, layers, measured) in [
        ("tiny", tiny(), vec!["tiny", "sampler.gen_batch=16", "eval.every=none", none], 201),
        ("8 layers of 512", middle(), [&middle_run[..], &[none]].concat(), 1531),
        ("8 layers of 512, recomputing", middle(), [&recomputing[..], &[none]].concat(), 875),
        ("8 layers of 512, keeping a part", middle(), keeping("rollout.keep_activations_mib=800"), 1725),
        ("8 layers of 512, keeping all", middle(), keeping("rollout.keep_activations_mib=2048"), 2542),
    ] {
        let addition = DataSizes { longest_prompt: Some(20), problems: Some(8192) };
        let estimated = of_data(&model, &layers, addition).memory.peak() / MIB;
        let ratio = estimated as f64 / f64::from(measured);
        // Where a part is kept, a batch of which nothing is may come first.
        let most = if name.ends_with("a part") { 1.45 } else { 1.15 };
        assert!((1.0..most).contains(&ratio), "{name}: {estimated} MiB estimated, {measured} MiB measured");
    }
}

#[test]
fn weights_moments_and_gradients_follow_from_the_parameters() {
    let parameters = 596_049_920;
    let estimate = of(&qwen3_0_6b(), &["dapo"], 100);
    assert_eq!(part(&estimate, "weights"), 4 * parameters);
    // There is one copy.
    assert_eq!(part(&estimate, "their packed copies"), 0);
    assert_eq!(part(&estimate, "optimiser's moments"), 8 * parameters);
    assert_eq!(part(&estimate, "gradients"), 4 * parameters);
    assert_eq!((part(&estimate, "adapters"), part(&estimate, "reference model")), (0, 0));
    // A rank that has all of V shards holds log2 V + 1 sums of their tree, and the whole.
    assert_eq!(part(&estimate, "sums of shards"), 0);
    let sharded = of(&qwen3_0_6b(), &["dapo", "train.shards=8"], 100);
    assert_eq!(part(&sharded, "sums of shards"), 5 * 4 * parameters);
    let with_kl = of(&qwen3_0_6b(), &["dapo", "kl.coef=0.1"], 100);
    assert_eq!(part(&with_kl, "reference model"), part(&estimate, "weights"));
}

#[test]
fn adapters_alone_have_gradients_and_moments() {
    let estimate = of(&qwen3_0_6b(), &["lora.rank=16", "lora.targets=['q_proj', 'down_proj']", "kl.coef=0.1"], 100);
    let adapters = 28 * 16 * ((1024 + 2048) + (3072 + 1024));
    assert_eq!(part(&estimate, "adapters"), 4 * adapters);
    // Factors [16, in] are padded to 32 rows, factors [out, 16] fill panels of 32.
    let padding = 28 * 16 * (1024 + 3072);
    assert_eq!(part(&estimate, "their packed copies"), 4 * (adapters + padding));
    assert_eq!((part(&estimate, "optimiser's moments"), part(&estimate, "gradients")), (8 * adapters, 4 * adapters));
    // The model without its adapters is the reference.
    assert_eq!(part(&estimate, "reference model"), 0);
    assert_eq!(estimate.disk.checkpoint, 12 * adapters);
}

#[test]
fn weights_in_bf16_take_half_and_have_f32_values_where_they_are_trained() {
    let n = 596_049_920;
    let matrices = n - 28 * (2 * 1024 + 2 * 128) - 1024;
    let parts = ["weights", "weights in bf16", "f32 of what is trained", "their packed copies", "reference model"];
    let of = |layers: &[&str]| of(&qwen3_0_6b(), &[&["model.weights=bf16"], layers].concat(), 100);
    let memory = |layers: &[&str]| parts.map(|name| part(&of(layers), name));
    assert_eq!(memory(&[]), [0, 2 * matrices, 4 * n, 0, 0]);
    assert_eq!(memory(&["kl.coef=0.1"])[4], 2 * matrices);
    assert_eq!(memory(&["kl.coef=0.1", "reference_sync.every=3"])[4], 2 * matrices + 4 * n);
    let lora = ["lora.rank=32", "lora.targets=['q_proj']", "kl.coef=0.1"];
    let adapters = 28 * 32 * (1024 + 2048);
    assert_eq!(memory(&lora), [0, 2 * matrices, 0, 4 * adapters, 0]);
    // Such a model is loaded in f32 first, which may be the most there ever is.
    let sizes = ["sampler.train_batch=1", "rollout.max_new_tokens=8", "rollout.group_size=2"];
    let short = of(&[&lora[..], &sizes, &["rollout.keep_activations_mib=0"]].concat());
    assert!(short.memory.peak() == short.memory.loading() && short.memory.loading() > 4 * n, "{short}");
    assert!(short.to_string().contains(", at the start; "), "{short}");
}

#[test]
fn the_cache_bounds_how_many_completions_grow() {
    // 28 layers · 8 heads · 128 · 2 · 4 bytes, 1120 + 32 positions.
    let one = 28 * 8 * 128 * 8 * 1152;
    let layers = ["rollout.max_new_tokens=1024", "sampler.train_batch=64"];
    let estimate = of(&qwen3_0_6b(), &layers, 100);
    assert_eq!(estimate.work.at_a_time, (2048 * MIB) / one);
    assert_eq!(part(&estimate, "keys and values"), estimate.work.at_a_time * one);
    // One has to fit; a run whose cache is smaller stops with an error.
    let small = of(&qwen3_0_6b(), &[&layers[..], &["rollout.cache_mib=1"]].concat(), 100);
    assert_eq!((small.work.at_a_time, part(&small, "keys and values")), (1, one));
    let large = of(&qwen3_0_6b(), &[&layers[..], &["rollout.cache_mib=1000000"]].concat(), 100);
    assert_eq!(large.work.at_a_time, 256);
}

#[test]
fn recomputing_layers_takes_less_and_longer_micro_batches_more() {
    let activations = |layers: &[&str]| part(&of(&qwen3_0_6b(), layers, 100), "activations");
    let kept = activations(&["sampler.train_batch=16"]);
    assert!(activations(&["sampler.train_batch=16", "train.layer_memory=recompute"]) < kept / 5);
    assert!(activations(&["sampler.train_batch=16", "train.micro_batch_tokens=8192"]) > kept * 9 / 5);
    // A mini-batch smaller than the micro-batch: 1 · (100 + 8 · 256) of 4096 tokens.
    let small = activations(&["sampler.train_batch=16", "train.mini_batches=16"]);
    assert!((0.5..0.56).contains(&(small as f64 / kept as f64)));
    // A completion longer than the micro-batch is computed all the same.
    assert_eq!(
        activations(&["train.micro_batch_tokens=1", "rollout.max_new_tokens=500"]),
        activations(&["train.micro_batch_tokens=600", "rollout.max_new_tokens=500"])
    );
}

#[test]
fn activations_of_rollouts_stay_within_their_memory_and_replace_those_of_an_update() {
    let step = ["sampler.train_batch=4", "sampler.dynamic=false", "rollout.max_new_tokens=32"];
    let with = |keys: &[&str]| {
        let estimate = of(&qwen3_0_6b(), &[&step[..], keys].concat(), 100);
        (part(&estimate, "activations of rollouts"), part(&estimate, "activations"))
    };
    let (none, computed) = with(&["rollout.keep_activations_mib=0"]);
    assert_eq!(none, 0);
    // By default as much as for keys and values, which is not all: nothing is taken off.
    assert_eq!(with(&[]), (2048 * MIB, computed));
    // 4 prompts of 100 tokens and 32 completions, with room for 8 tokens more each.
    let all = 4 * (108 + 8 * 40) * activation_bytes(&qwen3_0_6b(), LayerMemory::Keep) as u64;
    let kept = with(&["rollout.keep_activations_mib=4096"]);
    assert!(kept.0 == all && kept.1 < computed / 10, "{kept:?} beside {computed}");
    // The second update computes its activations.
    assert_eq!(with(&["rollout.keep_activations_mib=4096", "train.updates_per_batch=2"]), (all, computed));
    // A large step has room for too little of it.
    assert_eq!(with(&["rollout.max_new_tokens=512"]).0, 0);
}

#[test]
fn phases_add_up_and_the_larger_is_the_peak() {
    let estimate = of(&qwen3_0_6b(), &["qwen3-0.6b-one-gpu"], 512);
    let sum = |phase| -> u64 {
        let parts = estimate.memory.parts.iter().filter(|part| [Phases::Always, phase].contains(&part.phases));
        parts.map(|part| part.bytes).sum()
    };
    assert_eq!(estimate.memory.roll_out(), sum(Phases::RollOut));
    assert_eq!(estimate.memory.update(), sum(Phases::Update));
    assert_eq!((estimate.memory.peak(), estimate.memory.loading()), (estimate.memory.roll_out(), 0));
    assert!(estimate.memory.peak() < 28 << 30, "{estimate}");
}

#[test]
fn a_gpus_memory_is_that_of_bf16_with_f32_of_what_is_trained() {
    let n = 596_049_920;
    let keep = ["model.device=cuda:1", "sampler.train_batch=16", "rollout.cache_mib=100000"];
    let estimate = of(&qwen3_0_6b(), &keep, 100);
    let memory = |estimate: &CostEstimate| {
        ["weights in bf16", "f32 of what is trained", "optimiser's moments", "gradients", "reference model"]
            .map(|name| part(estimate, name))
    };
    assert!(estimate.memory.gpu);
    assert_eq!(memory(&estimate), [2 * n, 4 * n, 8 * n, 4 * n, 0]);
    // A micro-batch of 4,096 tokens: bytes of a token in each of 28 layers with its input, and in one layer at a time.
    let layer = 2 * (2 * 4096 + 2048 + 1024 + 6144 + 1024) + 64;
    let scratch = 2 * (2048 + 6144 + 4096 + 4096) + 6 * 1024;
    assert_eq!(part(&estimate, "activations"), 4096 * (28 * layer + scratch));
    // The 8 completions of 48 prompts, three batches, and of more as many as a decoding batch takes.
    assert_eq!(estimate.work.at_a_time, 384);
    let many = [&keep[..], &["sampler.train_batch=64"]].concat();
    assert_eq!(of(&qwen3_0_6b(), &many, 100).work.at_a_time, 512);
    let positions = 100 + 256_u64;
    assert_eq!(part(&estimate, "keys and values"), 384 * positions.next_multiple_of(32) * 28 * 1024 * 4);
    // Without a limit, as many as may be.
    let unlimited = of(&qwen3_0_6b(), &["model.device=cuda", "sampler.train_batch=64"], 100);
    assert_eq!(
        (unlimited.work.at_a_time, of(&qwen3_0_6b(), &["sampler.train_batch=64"], 100).work.at_a_time),
        (512, 24)
    );
    let on_cpu = of(&qwen3_0_6b(), &keep[1..], 100);
    assert!(!on_cpu.memory.gpu && estimate.memory.update() < on_cpu.memory.update());

    let recomputing = of(&qwen3_0_6b(), &[&keep[..], &["train.layer_memory=recompute"]].concat(), 100);
    assert!(part(&recomputing, "activations") < part(&estimate, "activations") / 8);
    let with_reference = of(&qwen3_0_6b(), &[&keep[..], &["kl.coef=0.1"]].concat(), 100);
    assert_eq!(part(&with_reference, "reference model"), 2 * n);
    let adapted = of(&qwen3_0_6b(), &[&keep[..], &["lora.rank=16", "kl.coef=0.1"]].concat(), 100);
    let adapters = part(&adapted, "gradients") / 4;
    assert!((10_000_000..10_200_000).contains(&adapters), "{adapters}");
    assert_eq!(memory(&adapted), [2 * (n + adapters), 4 * adapters, 8 * adapters, 4 * adapters, 0]);
    assert!(estimate.to_string().starts_with("GPU memory at most        "), "{estimate}");
}

#[test]
fn a_steps_tokens_and_updates_follow_from_batch_rounds_and_lengths() {
    let work = |layers: &[&str]| of(&tiny(), layers, 20).work;
    let paper = work(&["dapo-paper"]);
    assert_eq!((paper.prompts_a_round, paper.completions_a_prompt, paper.updates), (1536, 16, 16));
    assert_eq!((paper.rounds_expected, paper.rounds_at_most), (1, Some(10)));
    assert_eq!(paper.tokens_expected, 1536 * 16 * 20_480);
    assert_eq!((paper.tokens_at_most, paper.tokens_trained), (Some(15_360 * 16 * 20_480), 512 * 16 * 20_480));

    let without = work(&["verl-dapo-wo-ds"]);
    assert_eq!((without.prompts_a_round, without.rounds_at_most), (512, Some(1)));
    assert_eq!((without.tokens_at_most, without.tokens_trained), (Some(512 * 16 * 20_480), 512 * 16 * 20_480));

    // Adaptive rounds: what is missing, so 16, 8, 4, 2 and 1 prompts; at most three batches at a time.
    let adaptive = work(&["tiny"]);
    assert_eq!((adaptive.prompts_a_round, adaptive.rounds_expected, adaptive.updates), (16, 5, 2));
    assert_eq!((adaptive.tokens_expected, adaptive.tokens_at_most), (31 * 8 * 72, Some(10 * 48 * 8 * 72)));
    // With at least 12 and at most 12 prompts: 12, 12 and 12 for 16 groups.
    let bounded = work(&["tiny", "sampler.gen_batch_min=12", "sampler.gen_batch_max=12"]);
    assert_eq!((bounded.rounds_expected, bounded.tokens_expected), (3, 36 * 8 * 72));
    assert_eq!(work(&["tiny", "sampler.gen_batch_min=32"]).rounds_expected, 1);
    // The last quarter of the rounds draws as many as should fill the batch: all of a single one, the third of three.
    let single = work(&["tiny", "sampler.max_gen_rounds=1"]);
    assert_eq!((single.prompts_a_round, single.tokens_expected), (32, 32 * 8 * 72));
    let three = work(&["tiny", "sampler.max_gen_rounds=3"]);
    assert_eq!((three.rounds_expected, three.tokens_expected), (3, (16 + 8 + 8) * 8 * 72));
    assert_eq!(work(&["tiny", "sampler.gen_batch=8", "sampler.max_gen_rounds=3"]).rounds_expected, 3);
    assert_eq!(work(&["tiny", "sampler.per_prompt_max_samples=32"]).completions_a_prompt, 32);
    assert_eq!(work(&["tiny", "train.epochs=3", "train.mini_batches=16"]).updates, 48);

    // No limit on rounds: one pass over the data, and the rest of its last round.
    let endless = words(&["tiny", "sampler.gen_batch=8", "sampler.max_gen_rounds=0"]).unwrap().config;
    let known = |problems| estimate(&endless, &tiny(), DataSizes { problems, longest_prompt: None }).work;
    assert_eq!((known(None).rounds_at_most, known(None).tokens_at_most), (None, None));
    assert_eq!(known(Some(100)).tokens_at_most, Some(107 * 8 * 72));
}

#[test]
fn disk_space_counts_the_checkpoints_there_are_at_a_time() {
    let disk = |layers: &[&str]| of(&qwen3_0_6b(), layers, 100).disk;
    let once = disk(&["output.completions=false", "output.checkpoint_every=0"]);
    assert_eq!((once.checkpoints, once.checkpoint), (1, 12 * 596_049_920));
    assert_eq!((once.completions, once.total()), (0, 12 * 596_049_920));
    assert_eq!(disk(&["output.checkpoint_every=30", "output.keep_checkpoints=0"]).checkpoints, 4);
    assert_eq!(disk(&["output.checkpoint_every=30", "output.keep_checkpoints=2"]).checkpoints, 3);
    let following = disk(&["kl.coef=0.1", "kl.sync_every=10"]);
    assert_eq!(following.checkpoint, 16 * 596_049_920);
    assert_eq!(disk(&["tiny"]).completions, 80 * (31 * 8 * 72 * 4 + 8 * 72 * 20));
    assert_eq!(disk(&["tiny", "output.token_logprobs=0"]).completions, 80 * 31 * 8 * 72 * 4);
}

#[test]
fn the_text_shows_each_figure_with_its_unit() {
    let text = of(&qwen3_0_6b(), &["qwen3-0.6b-one-gpu"], 512).to_string();
    for line in [
        "memory at most            24.5 GiB, in rollouts; 11.6 GiB in updates\n",
        "  completions of a step   308 MiB\n",
        "  weights                 2.2 GiB\n",
        "  keys and values         15.8 GiB  in rollouts\n",
        "a step                    64 prompts a round, 7 of at most 10 rounds, 8 completions each, 48 at a time\n",
        "  tokens trained          524 thousand at most\n",
        "the run                   200 steps, 800 updates, 208 million tokens generated if half of the groups are kept\n",
        "  checkpoints             3 of 6.7 GiB\n",
    ] {
        assert!(text.contains(line), "{line}{text}");
    }
}

#[test]
fn absurd_settings_give_large_figures_and_no_panic() {
    let most = usize::MAX.to_string();
    let layers: Vec<String> = [
        "rollout.max_new_tokens",
        "rollout.group_size",
        "rollout.cache_mib",
        "sampler.train_batch",
        "sampler.gen_batch",
        "train.micro_batch_tokens",
        "train.steps",
        "train.epochs",
        "lora.rank",
    ]
    .map(|key| format!("{key}={most}"))
    .to_vec();
    let layers: Vec<&str> = layers.iter().map(String::as_str).collect();
    let estimate = of(&tiny(), &layers, usize::MAX);
    assert_eq!(estimate.work.tokens_expected, u64::MAX);
    assert!(estimate.memory.peak() > 1 << 60 && !estimate.to_string().is_empty());
    let zeros: Vec<String> = layers.iter().map(|word| word.replace(&most, "0")).collect();
    let zeros: Vec<&str> = zeros.iter().map(String::as_str).collect();
    assert_eq!(of(&tiny(), &zeros, 0).work.tokens_trained, 0);
}
