//! Keys that are left out, and why.

use crate::draft::Rules;

/// Keys without an effect here, beside others of the same section that have one.
pub(super) const FIRST: Rules = &[
    (&["*._target_"], "the Python class that holds the settings"),
    (&["actor_rollout_ref.rollout.agent.num_workers"], "one process: nothing is sharded or distributed"),
    (&["actor_rollout_ref.model.override_config.attn_implementation"], "how the model is computed, not what"),
    (&["distillation.n_gpus_per_node", "distillation.nnodes"], "one process: nothing is sharded or distributed"),
];

/// Sections that a switch of their own turns on, and the switch.
pub(super) const SWITCHED: [(&[&str], &str); 3] = [
    (
        &["actor_rollout_ref.rollout.multi_turn.*", "actor_rollout_ref.rollout.agent.*"],
        "actor_rollout_ref.rollout.multi_turn.enable",
    ),
    (&["distillation.*"], "distillation.enabled"),
    (&["algorithm.pf_ppo.*"], "algorithm.use_pf_ppo"),
];

/// Keys without which training differs.
pub(super) const CHANGES: Rules = &[
    (&["algorithm.rollout_correction.*"], "weights are not normalized here, and no token is judged by itself"),
    (
        &["actor_rollout_ref.rollout.multi_turn.*", "actor_rollout_ref.rollout.agent.*", "data.tool_config_path"],
        "no tools: one turn a problem",
    ),
    (&["actor_rollout_ref.rollout.logprobs_mode"], "not offered here"),
    (&["actor_rollout_ref.rollout.limit_images"], "text alone"),
    (
        &["actor_rollout_ref.model.custom_chat_template", "data.chat_template*", "data.apply_chat_template_kwargs.*"],
        "prompts are written with the model's own chat template: put this one into the model's folder",
    ),
    (
        &[
            "actor_rollout_ref.model.override_config.*",
            "actor_rollout_ref.model.external_lib",
            "actor_rollout_ref.model.lora.*",
        ],
        "the model is what its folder says",
    ),
    (
        &[
            "actor_rollout_ref.actor.policy_loss.*",
            "actor_rollout_ref.actor.use_invalid_action_penalty",
            "actor_rollout_ref.actor.freeze_vision_tower",
            "actor_rollout_ref.actor.self_distillation.*",
            "actor_rollout_ref.actor.router_replay.*",
            "distillation.*",
        ],
        "not offered here",
    ),
    (&["data.custom_cls.*", "data.sampler.*", "data.datagen.*"], "Python classes cannot be carried over"),
    (&["reward_model.sandbox_fusion.*", "reward.sandbox_fusion.*"], "rewards that run code cannot be carried over"),
    (
        &[
            "custom_reward_function.*",
            "reward.custom_reward_function.*",
            "reward_model.reward_kwargs.*",
            "reward.reward_kwargs.*",
        ],
        "arguments of a reward function cannot be carried over",
    ),
    (&["algorithm.use_pf_ppo", "algorithm.pf_ppo.*"], "completions are not drawn again by their rewards"),
    (&["algorithm.gdpo*", "algorithm.embodied*"], "not offered here"),
    (&["async_training.staleness_threshold", "async_training.partial_rollout"], "rollouts are never stale here"),
];

/// Keys without an effect here.
pub(super) const RULES: Rules = &[
    (&["actor_rollout_ref.rollout.calculate_log_probs"], "log-probs of the rollout are always kept"),
    (
        &[
            "actor_rollout_ref.rollout.log_prob_*",
            "actor_rollout_ref.ref.log_prob_*",
            "actor_rollout_ref.actor.ppo_micro_batch_size*",
            "actor_rollout_ref.actor.ppo_infer_*",
        ],
        "micro-batches are bounded by train.micro_batch_tokens",
    ),
    (
        &[
            "actor_rollout_ref.actor.fsdp_config.*",
            "actor_rollout_ref.actor.megatron.*",
            "actor_rollout_ref.actor.veomni.*",
            "actor_rollout_ref.actor.strategy",
            "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
            "actor_rollout_ref.ref.*",
            "actor_rollout_ref.hybrid_engine",
            "actor_rollout_ref.nccl_timeout",
            "actor_rollout_ref.rollout.tensor_model_parallel_size",
            "actor_rollout_ref.rollout.data_parallel_size",
            "actor_rollout_ref.rollout.expert_parallel_size",
            "actor_rollout_ref.rollout.pipeline_model_parallel_size",
            "trainer.n_gpus_per_node",
            "trainer.nnodes",
            "trainer.balance_batch",
            "trainer.ray_wait_register_center_timeout",
            "trainer.device",
            "trainer.use_legacy_worker_impl",
            "ray_kwargs.*",
            "ray_init.*",
            "model_engine",
            "server.*",
            "trainer.use_v1",
            "trainer.v1.*",
            "skip.*",
            "async_resources.*",
            "transfer_queue.*",
            "async_training.*",
            "rollout.*",
        ],
        "one process: nothing is sharded or distributed",
    ),
    (
        &[
            "actor_rollout_ref.rollout.val_kwargs.*",
            "actor_rollout_ref.rollout.prompt_length",
            "actor_rollout_ref.rollout.do_sample",
        ],
        "rollouts are sampled to the end token with the settings of [rollout]",
    ),
    (
        &["actor_rollout_ref.rollout.*"],
        "completions are generated in the process that trains; rollout.cache_mib bounds their memory",
    ),
    (
        &[
            "actor_rollout_ref.actor.optim.num_cycles",
            "actor_rollout_ref.actor.optim.total_training_steps",
            "actor_rollout_ref.actor.optim.lr_decay_steps",
        ],
        "the schedule falls once, over train.steps",
    ),
    (&["actor_rollout_ref.actor.optim.*"], OPTIMIZER),
    (
        &["actor_rollout_ref.actor.shuffle", "actor_rollout_ref.actor.data_loader_seed"],
        "mini-batches are portions of the step's groups in their order",
    ),
    (
        &[
            "actor_rollout_ref.actor.checkpoint.*",
            "trainer.resume_*",
            "trainer.del_local_ckpt_after_load",
            "trainer.default_hdfs_dir",
            "trainer.esi_redundant_time",
        ],
        "checkpoints hold all that exact resumption needs",
    ),
    (&["actor_rollout_ref.actor.calculate_entropy"], "the entropy is always measured"),
    (&["actor_rollout_ref.actor.*"], "how the trainer computes, not what"),
    (
        &["actor_rollout_ref.model.hf_config_path", "actor_rollout_ref.model.tokenizer_path", "data.tokenizer"],
        "the model's folder says all about the model",
    ),
    (&["actor_rollout_ref.model.*"], "how the model is computed, not what"),
    (&["data.reward_fn_key"], "one grader serves all, whatever a row's data_source"),
    (&["data.filter_overlong_prompts*"], "longer prompts are always left out"),
    (&["data.image_*", "data.video_*", "data.return_multi_modal_inputs"], "text alone"),
    (&["data.*"], "how the data are loaded, not which"),
    (&["reward_model.*", "reward_manager.*", "reward.*"], "for reward models, custom rewards and their workers"),
    (&["algorithm.kl_ctrl.*"], "the coefficient is fixed"),
    (
        &["trainer.project_name", "trainer.experiment_name", "trainer.default_local_dir"],
        "the run folder is named when the run is started",
    ),
    (&["trainer.logger", "trainer.log_val_generations"], "logging goes to metrics.jsonl"),
    (
        &["trainer.rollout_data_dir", "trainer.validation_data_dir"],
        "completions are in the run folder: output.completions",
    ),
    (&["trainer.val_only"], "evaluation alone is a command of its own"),
    (
        &["global_profiler.*", "trainer.profile*", "trainer.npu_profile*", "trainer.rollout_profile*"],
        "step_time and its parts are in metrics.jsonl",
    ),
    (
        &["hydra.*", "defaults", "defaults[*", "--config*", "hydra/*"],
        "the Hydra files it names are not read; what they set counts as verl's defaults",
    ),
    (&["NPROC_PER_NODE", "NNODES", "nproc_per_node", "nnodes", "num_processes"], "one process"),
    (&["*._target_"], "the Python class that holds the settings"),
];

pub(super) const OPTIMIZER: &str = "the optimizer is AdamW with moments in f32";
