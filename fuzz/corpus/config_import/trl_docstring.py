# A license, which isn't a command.
"""
pip install something

# For one model: it's this
accelerate launch \
    --config_file zero3.yaml \
    examples/scripts/tune.py \
    --model_name_or_path org/first \
    --use_peft \
    --lora_target_modules "q_proj", "v_proj" \
    --num_generations 8 \
    --epsilon 3e-4 \
    --num_train_epochs 2

# For another one
python examples/scripts/tune.py --model_name_or_path org/second --beta 0.1
"""

from trl import GRPOConfig


def reward(completions):
    return [len(text) for text in completions]
