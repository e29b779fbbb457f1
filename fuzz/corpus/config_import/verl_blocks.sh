#!/usr/bin/env bash
# Arrays of overrides, and blocks that change them for other machines.
set -euo pipefail

DEVICE=${DEVICE:-$(detect-device)}
batch=${BATCH:-256}
length=${LENGTH:-2048}
lr=${LR:-1e-6}
devices=${DEVICES:-}

case "${DEVICE}" in
    other)
        batch=16
        length=$((1024 * 32))
        devices=8
        ;;
    *)
        devices=4
        ;;
esac

DATA=(
    algorithm.adv_estimator=grpo
    data.train_files=train.parquet
    data.train_batch_size=${batch}
    data.max_response_length=${length}
)
ACTOR=(
    actor_rollout_ref.actor.optim.lr=${lr}
    actor_rollout_ref.actor.use_kl_loss=True # KL in the loss
    actor_rollout_ref.actor.kl_loss_coef=0.002
    actor_rollout_ref.actor.ppo_mini_batch_size=64
)
ROLLOUT=(
    actor_rollout_ref.rollout.n=8
    actor_rollout_ref.rollout.temperature=0.7
)
UNUSED=(
    actor_rollout_ref.actor.entropy_coeff=0.5
)
EXTRA=(
    trainer.n_gpus_per_node=${devices}
    trainer.total_epochs=15
)
if [ "${DEVICE}" = other ]; then
    ACTOR+=(
        actor_rollout_ref.actor.clip_ratio_high=0.3
        actor_rollout_ref.actor.fsdp_config.param_offload=True
    )
    EXTRA+=(trainer.n_gpus_per_node=16)
    MORE="data.seed=7 data.shuffle=False"
fi

python3 -m verl.trainer.main_ppo \
    "${DATA[@]}" \
    "${ACTOR[@]}" \
    "${ROLLOUT[@]}" \
    "${EXTRA[@]}" \
    "$@"
