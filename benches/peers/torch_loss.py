"""DAPO's loss and its gradient in torch, eager and compiled: the other side of `cargo bench --bench loss`.

Dense [B, T] f32 log-probs, one advantage a row, a mask whose rows end between T/4 and T; best of many runs, in nanoseconds an
element of B*T. Usage: python benches/peers/torch_loss.py [THREADS]
"""
import sys
import time

import torch

threads = int(sys.argv[1]) if len(sys.argv) > 1 else 2
torch.set_num_threads(threads)
torch.manual_seed(0)


def dapo(logprobs, old, advantages, mask):
    ratio = torch.exp(logprobs - old)
    surrogate = torch.min(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)
    return -(surrogate * mask).sum() / mask.sum().clamp(min=1.0)


def best(step, seconds=2.0):
    step()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 5:
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return min(times)


print(f"torch {torch.__version__}, {threads} threads")
for rows, columns in [(8, 1024), (64, 1024), (512, 2048)]:
    logprobs = (-2 * torch.rand(rows, columns)).requires_grad_()
    old = logprobs.detach() + 0.1 * torch.randn(rows, columns)
    advantages = torch.randn(rows, 1)
    lengths = torch.randint(columns // 4, columns + 1, (rows, 1))
    mask = (torch.arange(columns)[None] < lengths).float()
    for name, loss in [("eager", dapo), ("compiled", torch.compile(dapo))]:

        def step():
            logprobs.grad = None
            loss(logprobs, old, advantages, mask).backward()

        print(f"{rows}x{columns} {name}: {best(step) / (rows * columns) * 1e9:.2f} ns an element", flush=True)
