"""Runs every work of `cargo bench --bench step` here and in its peers, one after the other, and writes the table of this
CPU into docs/benchmarks.md, below the others of its kind.

    python benches/peers/compare.py MODEL.gguf FOLDER [PART ...]    # FOLDER as `peers.py convert` made it

Run it with the python of the virtual environment that setup.sh made, on an otherwise idle machine. With parts of names, only
the works with one are run; the table keeps its other rows.
"""

import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
TINY = os.path.join(ROOT, "testdata", "parity", "tiny-qwen3")
PAGE = os.path.join(ROOT, "docs", "benchmarks.md")
PRODUCTS = "bf16 weights and products"
FORMATS = {
    "f32": {"DAPO_WEIGHTS": "f32", "DAPO_COMPUTE": "f32"},
    "bf16": {"DAPO_WEIGHTS": "bf16", "DAPO_COMPUTE": "f32"},
    PRODUCTS: {"DAPO_WEIGHTS": "bf16", "DAPO_COMPUTE": "bf16"},
}
HEADER = ["| work | peer | peer's best, peak memory | our format | ours, peak memory | times faster |", "|---|---|---|---|---|---|"]


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


def works(folder, has_products=False):
    """Work, its figure, our formats, the peers' commands, and the label of each of their lines."""
    products = [PRODUCTS] if has_products else []
    llama = [["llama", os.path.join(folder, f"{kind}.gguf")] for kind in ("bf16", "f16")]
    return [
        ("smollm2 step 4x8x32", "s", ["f32"], [["step", folder, "32"]], "TRL, f32"),
        ("smollm2 step 4x8x64", "s", ["f32"], [["step", folder, "64"]], "TRL, f32"),
        ("tiny step 4x8x32", "s", ["f32"], [["step", TINY, "32", "tiny"]], "TRL, f32"),
        ("smollm2 train 8x256", "tokens_per_second", ["f32", *products], [["train", folder]], "torch"),
        ("smollm2 decode batch 32", "decode_tokens_per_second", ["f32", "bf16", *products],
         [["generate", folder], *llama], "transformers, f32"),
        ("smollm2 decode batch 1", "decode_tokens_per_second", ["f32", "bf16", *products], llama, ""),
        ("head 512 x 576 -> 49152", "s", ["f32"], [["head"]], "torch"),
    ]


def cpu():
    """The kind of CPU by its vector instructions, its description, and whether it multiplies in bf16."""
    with open("/proc/cpuinfo") as info:
        fields = dict(line.split(":", 1) for line in info.read().split("\n\n")[0].splitlines())
    fields = {key.strip(): value.strip() for key, value in fields.items()}
    flags = fields["flags"].split()
    kind = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "neither AVX2 nor AVX-512"
    description = f"{fields['model name']} (family {fields['cpu family']}, model {fields['model']}), {os.cpu_count()} cores"
    return kind, description, "avx512_bf16" in flags


def peer_name(command, line, label):
    if command[0] == "llama":
        return f"llama.cpp, {line['mode']}"
    return f"{label}, {line['mode']}" if "mode" in line else label


def cell(line, figure):
    value = line[figure]
    text = f"{value:.1f} tok/s" if figure != "s" else f"{value:.2f} s" if value > 1 else f"{value * 1e3:.0f} ms"
    return f"{text}, {line['peak_mib'] / 1024:.1f} GiB"


def markers(kind):
    return f"<!-- peers, {kind}: begin -->\n", f"<!-- peers, {kind}: end -->"


def parts_of(kind):
    """The page before the tables of this kind of CPU, the rows of each by the line of its CPU, and the page after them."""
    begin, end = markers(kind)
    with open(PAGE) as page:
        text = page.read()
    if begin not in text:
        sys.exit(f"{PAGE}: no line {begin.strip()!r}")
    before, rest = text.split(begin)
    block, after = rest.split(end)
    tables = {}
    for line in block.splitlines():
        if line.startswith("CPU: "):
            rows = tables[line] = []
        elif line.startswith("|") and line not in HEADER:
            rows.append(line)
    return before, tables, after


def work_of(row):
    return row.split("|")[1].strip()


def check(kind):
    """Ends the program where a table has works that are unknown."""
    names = [work[0] for work in works("")]
    unknown = [row for rows in parts_of(kind)[1].values() for row in rows if work_of(row) not in names]
    if unknown:
        sys.exit(f"{PAGE}: unknown work in {unknown[0]!r}, expected one of {names}")


def write(kind, description, rows):
    """Puts rows into the table of this CPU, in place of those of the same work, peer and format."""
    begin, end = markers(kind)
    before, tables, after = parts_of(kind)
    key = lambda row: tuple(row.split("|")[place].strip() for place in (1, 2, 4))
    line = f"CPU: {description}."
    known = {key(row): row for row in tables.get(line, []) + rows}
    order = [work[0] for work in works("")]
    tables[line] = sorted(known.values(), key=lambda row: order.index(work_of(row)))
    text = "\n".join("\n".join([line, "", *HEADER, *rows, ""]) for line, rows in tables.items())
    with open(PAGE, "w") as page:
        page.write(before + begin + text + end + after)


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    gguf, folder, parts = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3:]
    bench = executable()
    kind, description, has_products = cpu()
    print(f"{kind}: {description}", flush=True)
    check(kind)
    for work, figure, formats, commands, label in works(folder, has_products):
        if parts and not any(part in work for part in parts):
            continue

        def measure():
            command = [bench, "--bench", work]
            return [lines(command, DAPO_SMOLLM2_GGUF=gguf, **FORMATS[format])[-1] for format in formats]

        # Ours before and after the peers, so that a machine that changes its pace is noticed; the better one counts.
        before = measure()
        peers = []
        for command in commands:
            for line in lines([sys.executable, os.path.join(HERE, "peers.py"), *command]):
                if line["work"] == work:
                    peers.append((peer_name(command, line, label), line))
        rows = []
        for format, *runs in zip(formats, before, measure()):
            best = (min if figure == "s" else max)(runs, key=lambda line: line[figure])
            print(f"{work}, {format}: {', '.join(cell(run, figure) for run in runs)}", flush=True)
            for name, line in peers:
                ratio = line[figure] / best[figure] if figure == "s" else best[figure] / line[figure]
                rows.append(f"| {work} | {name} | {cell(line, figure)} | {format} | {cell(best, figure)} | {ratio:.2f}× |")
                print(rows[-1], flush=True)
        write(kind, description, rows)


main()
