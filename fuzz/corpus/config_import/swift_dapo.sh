NPROC_PER_NODE=2 \
CUDA_VISIBLE_DEVICES=0,1 \
HF_TOKEN=hf_abcdef \
swift rlhf \
    --rlhf_type grpo \
    --model Qwen/Qwen2.5-1.5B-Instruct \
    --tuner_type full \
    --dataset 'AI-MO/NuminaMath-TIR#1000' \
    --loss_type bnpo \
    --epsilon 0.2 \
    --epsilon_high 0.28 \
    --dynamic_sample true \
    --max_resample_times 3 \
    --overlong_filter true \
    --reward_funcs accuracy soft_overlong \
    --reward_weights 1.0 0.5 \
    --soft_max_length 2048 \
    --soft_cache_length 512 \
    --max_completion_length 4096 \
    --max_length 1024 \
    --truncation_strategy delete \
    --num_generations 8 \
    --per_device_train_batch_size 4 \
    --gradient_accumulation_steps 4 \
    --num_iterations 1 \
    --learning_rate 1e-6 \
    --lr_scheduler_type cosine_with_min_lr \
    --lr_scheduler_kwargs '{"min_lr": 1e-7}' \
    --warmup_ratio 0.05 \
    --max_steps 100 \
    --beta 0.0 \
    --temperature 1.0 \
    --system """Put the answer in \\boxed{}.""" \
    --torch_dtype bfloat16 \
    --use_vllm true \
    --vllm_mode colocate \
    --deepspeed zero2 \
    --log_completions true \
    --save_steps 20
