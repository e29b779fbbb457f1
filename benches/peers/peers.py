"""The other side of `cargo bench --bench step` and `--bench kernels`: the same work in TRL, torch, transformers and llama.cpp.

    python benches/peers/peers.py convert MODEL.gguf OUT   # once: a Hugging Face folder, and bf16 and f16 GGUF files beside it
    python benches/peers/peers.py step OUT TOKENS          # TRL's GRPOTrainer with DAPO's loss, 4 prompts, 8 completions each
    python benches/peers/peers.py train OUT                # torch: forward, backward and AdamW of 8 x 256 tokens
    python benches/peers/peers.py generate OUT             # transformers: 64 new tokens, batch 32, sampled
    python benches/peers/peers.py llama FILE.gguf          # llama.cpp: decoding, batches 1 and 32
    python benches/peers/peers.py head                     # torch: log-probs, loss and gradient from hidden states

Every completion has exactly the tokens that were asked for, and all of them are trained. One JSON line a figure. The number
of threads is that of OMP_NUM_THREADS, or of the processors. TORCH_MODES=f32 leaves bf16 out, which is slow without its instructions.
"""

import json
import os
import re
import statistics
import sys
import tempfile
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
THREADS = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))


def report(work, seconds, **more):
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) / 1024 for line in status if line.startswith("VmHWM"))
    line = {"work": work, "threads": THREADS, "s": min(seconds), "s_median": statistics.median(seconds), "peak_mib": peak}
    print(json.dumps(line | more), flush=True)


def repeat(work, times):
    work()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return seconds


def question(i, plain):
    a, b = 10 + (37 * i + 11) % 90, 10 + (53 * i + 29) % 90
    text = f"{a}+{b}=?" if plain else f"What is {a} + {b}? Reply with only the number."
    return [{"role": "user", "content": text}], a + b


def convert(gguf, out):
    import numpy as np
    import torch
    from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, GGUFWriter, LlamaFileType
    from gguf.quants import dequantize, quantize
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    reader = GGUFReader(gguf)
    folder, name = os.path.split(os.path.abspath(gguf))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    loaded = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    c = loaded.config
    # The model as loaded counts as quantised, and cannot be saved.
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=c.vocab_size, hidden_size=c.hidden_size, intermediate_size=c.intermediate_size,
        num_hidden_layers=c.num_hidden_layers, num_attention_heads=c.num_attention_heads,
        num_key_value_heads=c.num_key_value_heads, max_position_embeddings=c.max_position_embeddings,
        rms_norm_eps=c.rms_norm_eps, rope_parameters=c.rope_parameters, tie_word_embeddings=True,
        bos_token_id=1, eos_token_id=2, pad_token_id=2))
    model.load_state_dict({k: v.float() for k, v in loaded.state_dict().items()})
    tokenizer.chat_template = reader.fields["tokenizer.chat_template"].contents()
    tokenizer.eos_token = tokenizer.pad_token = "<|im_end|>"
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    for kind, file_type in [("BF16", LlamaFileType.MOSTLY_BF16), ("F16", LlamaFileType.MOSTLY_F16)]:
        writer = GGUFWriter(os.path.join(out, kind.lower() + ".gguf"), reader.fields["general.architecture"].contents())
        for key, field in reader.fields.items():
            if key.startswith("GGUF.") or key == "general.architecture":
                continue
            value = int(file_type) if key == "general.file_type" else field.contents()
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(key, value, field.types[0], sub_type=inner)
        for tensor in reader.tensors:
            values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
            values = values.reshape([int(n) for n in reversed(tensor.shape)])
            if values.ndim == 1:
                writer.add_tensor(tensor.name, values)
            elif kind == "F16":
                writer.add_tensor(tensor.name, values.astype(np.float16))
            else:
                quantised = GGMLQuantizationType.BF16
                writer.add_tensor(tensor.name, quantize(values, quantised), raw_dtype=quantised)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def step(model, tokens, name):
    import torch
    import transformers
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import GRPOConfig, GRPOTrainer

    torch.set_num_threads(THREADS)
    transformers.logging.set_verbosity_error()
    plain = name == "tiny"
    steps = 12 if plain else 3
    rows = [question(i, plain) for i in range(64)]
    data = Dataset.from_list([{"prompt": prompt, "answer": answer} for prompt, answer in rows])

    def reward(completions, answer, **_):
        last = [re.findall(r"\d+", completion[0]["content"])[-1:] for completion in completions]
        return [0.0 if not found else 1.0 if int(found[0]) == a else 0.1 for found, a in zip(last, answer)]

    seconds, generating, generated = [], [], []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_, **__):
            self.start = time.perf_counter()

        def on_step_end(self, *_, **__):
            seconds.append(time.perf_counter() - self.start)

    with tempfile.TemporaryDirectory() as folder:
        config = GRPOConfig(
            output_dir=folder, use_cpu=True, bf16=False, report_to="none", save_strategy="no", disable_tqdm=True,
            logging_steps=1000, max_steps=steps, learning_rate=1e-5, lr_scheduler_type="constant", loss_type="dapo",
            epsilon=0.2, epsilon_high=0.28, beta=0.0, mask_truncated_completions=False, num_generations=8,
            per_device_train_batch_size=32, max_completion_length=tokens, temperature=1.0, top_p=1.0, top_k=0,
            generation_kwargs={"min_new_tokens": tokens}, gradient_checkpointing=False,
            model_init_kwargs={"dtype": "float32"})
        trainer = GRPOTrainer(model=model, reward_funcs=reward, args=config, train_dataset=data)
        inner = trainer._generate

        def generate(*arguments, **keywords):
            start = time.perf_counter()
            result = inner(*arguments, **keywords)
            generating.append(time.perf_counter() - start)
            generated.append(sum(len(ids) for ids in result[1]))
            return result

        trainer._generate = generate
        trainer.add_callback(Clock())
        trainer.train()
    assert set(generated) == {32 * tokens}, generated
    # The first step pays for what is set up once.
    report(f"{name} step 4x8x{tokens}", seconds[1:], rollout_s=min(generating[1:]))


def train(model, name):
    import torch
    import torch.nn.functional as F
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(THREADS)
    for mode in os.environ.get("TORCH_MODES", "f32,bf16 autocast").split(","):
        network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-5, fused=True)
        ids = torch.randint(0, network.config.vocab_size, (8, 256))

        def once():
            with torch.autocast("cpu", torch.bfloat16, enabled=mode != "f32"):
                logits = network(input_ids=ids, use_cache=False).logits
            F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

        seconds = repeat(once, 2)
        report(f"{name} train 8x256", seconds, mode=mode, tokens_per_second=2048 / min(seconds))


def generate(model, name):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(THREADS)
    tokenizer = AutoTokenizer.from_pretrained(model, padding_side="left")
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    texts = [tokenizer.apply_chat_template(question(i, False)[0], add_generation_prompt=True, tokenize=False)
             for i in range(32)]
    batch = tokenizer(texts, return_tensors="pt", padding=True)

    def new(tokens):
        network.generate(**batch, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=True, temperature=1.0,
                         top_k=0, pad_token_id=tokenizer.pad_token_id)

    with torch.inference_mode():
        prefill = min(repeat(lambda: new(1), 2))
        seconds = repeat(lambda: new(64), 2)
    report(f"{name} decode batch 32", seconds, decode_tokens_per_second=32 * 63 / (min(seconds) - prefill))


def llama(path, name):
    import ctypes
    import llama_cpp as lib
    import numpy as np

    log = lib.llama_log_callback(lambda *_: None)
    lib.llama_log_set(log, ctypes.c_void_p(0))
    lib.llama_backend_init()
    model = lib.llama_model_load_from_file(path.encode(), lib.llama_model_default_params())
    vocab = lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))
    for count in [1, 8, 32]:
        prompt, new = 47, 64
        settings = lib.llama_context_default_params()
        settings.n_ctx = count * (prompt + new + 1)
        settings.n_batch = max(512, count * prompt)
        settings.n_seq_max = count
        settings.n_threads = settings.n_threads_batch = THREADS
        context = lib.llama_init_from_model(model, settings)
        memory = lib.llama_get_memory(context)
        batch = lib.llama_batch_init(count * prompt, 0, 1)
        tokens = np.random.default_rng(0).integers(100, vocab - 100, (count, prompt))

        def put(place, token, position, sequence, wanted):
            batch.token[place], batch.pos[place], batch.n_seq_id[place] = int(token), position, 1
            batch.seq_id[place][0], batch.logits[place] = sequence, int(wanted)

        def likeliest(place):
            return int(np.ctypeslib.as_array(lib.llama_get_logits_ith(context, place), (vocab,)).argmax())

        def run():
            lib.llama_memory_clear(memory, True)
            for sequence in range(count):
                for i in range(prompt):
                    put(sequence * prompt + i, tokens[sequence, i], i, sequence, i == prompt - 1)
            batch.n_tokens = count * prompt
            assert lib.llama_decode(context, batch) == 0
            last = [likeliest((sequence + 1) * prompt - 1) for sequence in range(count)]
            start = time.perf_counter()
            for position in range(prompt, prompt + new - 1):
                for sequence in range(count):
                    put(sequence, last[sequence], position, sequence, True)
                batch.n_tokens = count
                assert lib.llama_decode(context, batch) == 0
                last = [likeliest(sequence) for sequence in range(count)]
            return time.perf_counter() - start

        run()
        seconds = [run() for _ in range(3)]
        kind = os.path.basename(path).split(".")[0]
        report(f"{name} decode batch {count}", seconds, mode=kind,
               decode_tokens_per_second=count * (new - 1) / min(seconds))
        lib.llama_batch_free(batch)
        lib.llama_free(context)


def head():
    import torch
    import torch.nn.functional as F

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    rows, vocab, width = 512, 49_152, 576
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = (torch.randn(vocab, width) / width**0.5).requires_grad_()
    targets, advantages = torch.randint(0, vocab, (rows,)), torch.randn(rows)
    old = torch.full((rows,), -10.8)

    def loss(hidden, weight):
        logprobs = F.log_softmax(hidden @ weight.t(), -1).gather(-1, targets[:, None]).squeeze(-1)
        ratio = (logprobs - old).exp()
        return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages).mean()

    for mode, function in [("eager", loss), ("torch.compile", torch.compile(loss))]:
        def once():
            hidden.grad = weight.grad = None
            function(hidden, weight).backward()

        report("head 512 x 576 -> 49152", repeat(once, 5), mode=mode)


def main():
    works = {"convert": convert, "step": lambda model, tokens, name="smollm2": step(model, int(tokens), name),
             "train": lambda model, name="smollm2": train(model, name),
             "generate": lambda model, name="smollm2": generate(model, name),
             "llama": lambda path, name="smollm2": llama(path, name), "head": head}
    if len(sys.argv) < 2 or sys.argv[1] not in works:
        sys.exit(__doc__)
    works[sys.argv[1]](*sys.argv[2:])


main()
