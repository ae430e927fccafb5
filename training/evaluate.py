"""Measures an exported model on the held-out packages: bits per byte beside three baselines, and single-line holes.

    python evaluate.py MODEL_DIR [--bytes 2100000] [--holes 200] [--orders spm,psm]

Writes evaluation.json into the training directory and prints it. The model runs through transformers, so the export is tested too.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import io
import json
import lzma
import math
import os
import pathlib
import random
import tokenize

import numpy as np
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(os.environ.get("QUERN_TRAINING_DIR", ".training"))
ORDER = 5
PREFIX_CHARS, SUFFIX_CHARS = 1000, 400


def read(split: str) -> list[dict]:
    with (ROOT / f"corpus/{split}.jsonl").open() as lines:
        return [json.loads(line) for line in lines]


def sample_files(bytes_wanted: int) -> list[dict]:
    files = read("held_out")
    random.Random(3).shuffle(files)
    chosen, size = [], 0
    for file in files:
        if size >= bytes_wanted:
            break
        chosen.append(file)
        size += len(file["text"].encode())
    return chosen


@torch.no_grad()
def bits_of_file(model, ids: list[int], window: int) -> float:
    """Every token once, left to right; each window forgets what came before it."""
    total = 0.0
    for at in range(0, len(ids) - 1, window):
        piece = torch.tensor([ids[at : at + window + 1]])
        logits = model(input_ids=piece[:, :-1], use_cache=False).logits[0]
        total += F.cross_entropy(logits.float(), piece[0, 1:], reduction="sum").item()
    return total / math.log(2)


def bits_per_byte(model, tokenizer, files: list[dict], window: int) -> dict[str, float]:
    end = tokenizer.convert_tokens_to_ids("<|endoftext|>")
    bits, size = {}, {}
    for file in files:
        ids = [end] + tokenizer.encode(file["text"], add_special_tokens=False)
        for key in ("all", file["language"]):
            size[key] = size.get(key, 0) + len(file["text"].encode())
        cost = bits_of_file(model, ids, window)
        for key in ("all", file["language"]):
            bits[key] = bits.get(key, 0.0) + cost
    return {key: round(bits[key] / size[key], 4) for key in bits}


class NGram:
    """Bytes, order 5, interpolated by Witten and Bell's rule (1991)."""

    def __init__(self, data: np.ndarray) -> None:
        self.levels = []
        for k in range(ORDER + 1):
            grams, counts = np.unique(self.codes(data, k), return_counts=True)
            contexts, first = np.unique(grams >> np.uint64(8), return_index=True)
            totals = np.add.reduceat(counts, first)
            kinds = np.diff(np.append(first, len(grams)))
            self.levels.append((grams, counts, contexts, totals, kinds))

    @staticmethod
    def codes(data: np.ndarray, k: int) -> np.ndarray:
        """The k bytes before each byte, and the byte; [n], the first ORDER positions dropped."""
        code = np.zeros(len(data) - ORDER, dtype=np.uint64)
        for back in range(k, -1, -1):
            code = code << np.uint64(8) | data[ORDER - back : len(data) - back].astype(np.uint64)
        return code

    @staticmethod
    def look_up(keys: np.ndarray, values: list[np.ndarray], wanted: np.ndarray) -> list[np.ndarray]:
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        hit = keys[at] == wanted
        return [np.where(hit, v[at], 0).astype(np.float64) for v in values]

    def bits_per_byte(self, data: np.ndarray) -> float:
        p = np.full(len(data) - ORDER, 1 / 256)
        for k, (grams, counts, contexts, totals, kinds) in enumerate(self.levels):
            code = self.codes(data, k)
            (count,) = self.look_up(grams, [counts], code)
            total, kind = self.look_up(contexts, [totals, kinds], code >> np.uint64(8))
            p = np.where(total > 0, (count + kind * p) / np.maximum(total + kind, 1), p)
        return float(-np.log2(p).mean())


def baselines(files: list[dict], train_bytes: int) -> dict[str, float]:
    text = "".join(f["text"] for f in files).encode()
    training = "".join(f["text"] for f in read("train"))[:train_bytes].encode()
    gram = NGram(np.frombuffer(training, dtype=np.uint8))
    return {
        "gzip -9": round(8 * len(gzip.compress(text, 9)) / len(text), 4),
        "xz -9": round(8 * len(lzma.compress(text, preset=9)) / len(text), 4),
        "order-5 n-gram": round(gram.bits_per_byte(np.frombuffer(text, dtype=np.uint8)), 4),
        "n-gram training bytes": len(training),
    }


def parses(text: str) -> bool:
    try:
        ast.parse(text)
        return True
    except (SyntaxError, ValueError):
        return False


def code_lines(text: str) -> list[int]:
    """Lines (from 0) on which an identifier or keyword starts: neither comment nor inside a string."""
    names = {t.start[0] - 1 for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type == tokenize.NAME}
    lines = text.split("\n")
    return [i for i in sorted(names) if len("".join(lines[i].split())) >= 8]


def holes(count: int) -> list[tuple[str, str, str]]:
    """(before, middle, after): one whole line of code without its indentation; one hole per file and round."""
    files = [f["text"] for f in read("held_out") if f["language"] == "python" and parses(f["text"])]
    rng, found = random.Random(4), []
    while len(found) < count:
        text = rng.choice(files)
        choice = code_lines(text)
        if not choice:
            continue
        lines = text.split("\n")
        i = rng.choice(choice)
        line = lines[i]
        start = sum(len(x) + 1 for x in lines[:i]) + len(line) - len(line.lstrip())
        found.append((text[:start], line.strip(), text[start + len(line.strip()) :]))
    return found


@torch.no_grad()
def fill(model, tokenizer, before: str, after: str, order: str) -> tuple[str, bool]:
    """Greedy; the text up to the end token, and whether the model ended by itself within 64 tokens.

    order: psm (prefix first) or spm (suffix first, the prefix after the middle's token), as in rows.py.
    """
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)
    prefix, middle, suffix, end = (
        tokenizer.convert_tokens_to_ids(f"<|{n}|>") for n in ("fim_prefix", "fim_middle", "fim_suffix", "endoftext")
    )
    near = before[-PREFIX_CHARS:]
    near = near[near.find("\n") + 1 :] if len(before) > PREFIX_CHARS else near
    head, tail = encode(near), encode(after[:SUFFIX_CHARS])
    ids = [prefix, *head, suffix, *tail, middle] if order == "psm" else [prefix, suffix, *tail, middle, *head]
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=64,
        do_sample=False,
        eos_token_id=end,
        pad_token_id=end,
    )
    made = out[0, len(ids) :].tolist()
    ended = end in made
    return tokenizer.decode([t for t in made if t != end]), ended


def infill(model, tokenizer, count: int, order: str) -> dict:
    cases, tally = (
        holes(count),
        {"parses": 0, "parses cut at the first newline": 0, "exact": 0, "ended": 0, "one line": 0, "parses with the hole left empty": 0},
    )
    examples = []
    for before, middle, after in cases:
        text, ended = fill(model, tokenizer, before, after, order)
        line = text.split("\n")[0]
        tally["parses"] += parses(before + text + after)
        tally["parses cut at the first newline"] += parses(before + line + after)
        tally["parses with the hole left empty"] += parses(before + after)
        tally["exact"] += text.strip() == middle
        tally["ended"] += ended
        tally["one line"] += ended and "\n" not in text
        examples.append({"wanted": middle, "got": text})
    return {"holes": count, **{key: round(value / count, 4) for key, value in tally.items()}, "examples": examples[:20]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--bytes", type=int, default=2_100_000)
    parser.add_argument("--holes", type=int, default=200)
    parser.add_argument("--orders", default="spm,psm", help="of the infill prompt; the first one is what quern.json says")
    parser.add_argument("--ngram-bytes", type=int, default=30_000_000)
    parser.add_argument("--no-baselines", action="store_true")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    files = sample_files(args.bytes)
    result = {"held-out files": len(files), "held-out bytes": sum(len(f["text"].encode()) for f in files)}
    for order in args.orders.split(","):
        result[f"single-line holes, {order}"] = infill(model, tokenizer, args.holes, order)
    print(json.dumps(result, indent=1), flush=True)
    result["bits per byte, windows of 512 tokens"] = bits_per_byte(model, tokenizer, files, 512)
    result["bits per byte, windows of 2048 tokens"] = bits_per_byte(model, tokenizer, files, 2048)
    if not args.no_baselines:
        result["baselines"] = baselines(files, args.ngram_bytes)
    (ROOT / "evaluation.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
