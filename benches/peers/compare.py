"""Runs every work of `cargo bench --bench step` here and in its peers, one after the other, and writes the table into
docs/benchmarks.md.

    python benches/peers/compare.py MODEL.gguf FOLDER [PART ...]    # FOLDER as `peers.py convert` made it

Run it with the python of the virtual environment that setup.sh made, on an otherwise idle machine. With parts of names, only
the works with one are run, and the table is printed, not written.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TINY = os.path.join(ROOT, "testdata", "parity", "tiny-qwen3")


def lines(command, **environment):
    result = subprocess.run(command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)
    if result.returncode:
        sys.exit(f"{' '.join(command)}: {result.stderr[-2000:]}")
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith('{"')]


def executable():
    """Builds the bench and returns where it is."""
    build = ["cargo", "bench", "--bench", "step", "--no-run", "--message-format=json"]
    messages = subprocess.run(build, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = [json.loads(message).get("executable") for message in messages if message.startswith("{")]
    return [path for path in found if path][-1]


def works(folder):
    """Work, its figure, the peers' commands, and the label of each of their lines."""
    llama = [["llama", os.path.join(folder, f"{kind}.gguf")] for kind in ("bf16", "f16")]
    return [
        ("smollm2 step 4x8x32", "s", [["step", folder, "32"]], "TRL, f32"),
        ("smollm2 step 4x8x64", "s", [["step", folder, "64"]], "TRL, f32"),
        ("tiny step 4x8x32", "s", [["step", TINY, "32", "tiny"]], "TRL, f32"),
        ("smollm2 train 8x256", "tokens_per_second", [["train", folder]], "torch"),
        ("smollm2 decode batch 32", "decode_tokens_per_second", [["generate", folder], *llama], "transformers, f32"),
        ("smollm2 decode batch 1", "decode_tokens_per_second", llama, ""),
        ("head 512 x 576 -> 49152", "s", [["head"]], "torch"),
    ]


def peer_name(command, line, label):
    if command[0] == "llama":
        return f"llama.cpp, {line['mode']}"
    return f"{label}, {line['mode']}" if "mode" in line else label


def cell(line, figure):
    value = line[figure]
    text = f"{value:.1f} tok/s" if figure != "s" else f"{value:.2f} s" if value > 1 else f"{value * 1e3:.0f} ms"
    return text


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    gguf, folder, parts = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
    bench = executable()
    rows = []
    for work, figure, commands, label in works(folder):
        if parts and not any(part in work for part in parts):
            continue
        # Ours before and after the peers, so that a machine that changes its pace is noticed; the better one counts.
        measure = lambda: lines([bench, "--bench", work], DAPO_SMOLLM2_GGUF=gguf)[-1]
        runs = [measure()]
        peers = []
        for command in commands:
            for line in lines([sys.executable, os.path.join(HERE, "peers.py"), *command]):
                if line["work"] == work:
                    peers.append((peer_name(command, line, label), line))
        runs.append(measure())
        best = (min if figure == "s" else max)(runs, key=lambda line: line[figure])
        for name, line in peers:
            ratio = line[figure] / best[figure] if figure == "s" else best[figure] / line[figure]
            rows.append(f"| {work} | {name} | {cell(line, figure)}, {line['peak_mib'] / 1024:.1f} GiB "
                        f"| {cell(best, figure)}, {best['peak_mib'] / 1024:.1f} GiB | {ratio:.2f}× |")
            print(rows[-1], flush=True)
    if parts:
        return
    table = "\n".join(["| work | peer | peer's best, peak memory | ours, f32 | times faster |", "|---|---|---|---|---|", *rows])
    path = os.path.join(ROOT, "docs", "benchmarks.md")
    with open(path) as page:
        before, rest = page.read().split("<!-- peers: begin -->")
    after = rest.split("<!-- peers: end -->")[1]
    with open(path, "w") as page:
        page.write(f"{before}<!-- peers: begin -->\n{table}\n<!-- peers: end -->{after}")


main()
