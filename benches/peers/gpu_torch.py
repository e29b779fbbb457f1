"""The other side of the example `gpu_check`: the same work in transformers and torch on the same GPU.

    python benches/peers/gpu_torch.py [--shape 0.6b|4b] [--device cuda] [--attention sdpa|flash_attention_2]

A training step of 8 sequences of 4,096 tokens: forward under autocast to bf16, the log-probs of all tokens, backward, clipping,
AdamW on f32 weights. Then decoding, sampled: 256 sequences, 128 new tokens after prompts of 64 and of 960, the time of the prompts
taken off, in bf16. Random weights. Writes one JSON object, as `gpu_check` does; what does not fit into memory is null.
"""

import argparse
import json
import sys
import time

import torch
import transformers
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import Qwen3Config, Qwen3ForCausalLM

SHAPES = {
    "0.6b": dict(hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16),
    "4b": dict(hidden_size=2560, intermediate_size=9728, num_hidden_layers=36, num_attention_heads=32),
    "tiny": dict(hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, vocab_size=1000),
}


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="0.6b")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--sequences", type=int, default=8, help="of the training step")
    parser.add_argument("--length", type=int, default=4096, help="of each of them")
    parser.add_argument("--batch", type=int, default=256, help="of decoding")
    parser.add_argument("--prompts", type=int, nargs="*", default=[64, 960])
    parser.add_argument("--new", type=int, default=128)
    return parser.parse_args()


def network(args, dtype):
    shape = dict(vocab_size=151_936, num_key_value_heads=8, head_dim=128, max_position_embeddings=40_960,
                 tie_word_embeddings=True)
    shape |= SHAPES[args.shape]
    if args.shape == "tiny":
        shape |= dict(num_key_value_heads=2, head_dim=16)
    config = Qwen3Config(**shape, attn_implementation=args.attention)
    torch.manual_seed(0)
    with torch.device(args.device):
        return Qwen3ForCausalLM(config).to(dtype)


def synchronize(args):
    if args.device.startswith("cuda"):
        torch.cuda.synchronize()


def seconds_of(args, work, times):
    work()
    synchronize(args)
    start = time.perf_counter()
    for _ in range(times):
        work()
    synchronize(args)
    return (time.perf_counter() - start) / times


def peak(args):
    return torch.cuda.max_memory_allocated() if args.device.startswith("cuda") else None


def train(args, compiled, chunked):
    model = network(args, torch.float32).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, weight_decay=0.1, fused=True)
    ids = torch.randint(0, model.config.vocab_size, (args.sequences, args.length), device=args.device)

    def loss_of(ids):
        with torch.autocast(args.device.split(":")[0], torch.bfloat16):
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
        if not chunked:
            return logprobs(hidden[:, :-1].flatten(0, 1), ids[:, 1:].flatten()) / ids[:, 1:].numel()
        total = 0.0
        # Logits of one sequence at a time, computed again in the backward.
        for i in range(len(ids)):
            total = total + checkpoint(logprobs, hidden[i, :-1], ids[i, 1:], use_reentrant=False)
        return total / ids[:, 1:].numel()

    def logprobs(hidden, targets):
        with torch.autocast(args.device.split(":")[0], torch.bfloat16):
            logits = model.lm_head(hidden)
        return cross_entropy(logits.float(), targets, reduction="sum")

    function = torch.compile(loss_of) if compiled else loss_of

    def step():
        function(ids).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    seconds = seconds_of(args, step, 3)
    tokens = args.sequences * args.length
    what = ("torch.compile" if compiled else "eager") + (", logits by sequence" if chunked else ", all logits")
    return {"what": what, "seconds": seconds, "tokens_per_second": tokens / seconds,
            "peak_memory": peak(args)}


def decode(args, prompt):
    model = network(args, torch.bfloat16).eval()
    ids = torch.randint(0, model.config.vocab_size, (args.batch, prompt), device=args.device)

    def new(tokens):
        model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens,
                       do_sample=True, temperature=1.0, top_k=0, pad_token_id=0)

    with torch.inference_mode():
        prefill = seconds_of(args, lambda: new(1), 1)
        seconds = seconds_of(args, lambda: new(args.new), 1) - prefill
    return {"prompt": prompt, "seconds": seconds, "tokens_per_second": args.batch * (args.new - 1) / seconds,
            "peak_memory": peak(args)}


def attempt(args, work, *arguments):
    if args.device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        result = work(args, *arguments)
    except torch.OutOfMemoryError:
        result = None
    print(work.__name__, *arguments, result, file=sys.stderr, flush=True)
    return result


def main():
    args = parse()
    report = {"torch": torch.__version__, "transformers": transformers.__version__, "shape": args.shape,
              "attention": args.attention}
    report["train"] = [attempt(args, train, compiled, chunked) for compiled in (False, True) for chunked in (False, True)]
    report["decode"] = [attempt(args, decode, prompt) for prompt in args.prompts]
    print(json.dumps(report))


main()
