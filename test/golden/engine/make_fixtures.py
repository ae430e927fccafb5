"""Writes one JSON per model family: what Hugging Face transformers computes, in float32 on CPU, for a checkpoint made from a seed.

    python make_fixtures.py [family ...]       needs torch and transformers; run by hand, the results are committed

The checkpoint itself is not stored: README.md gives the algorithm that makes every weight from its name, index and a seed.
"""

from __future__ import annotations

import base64
import json
import os
import pathlib
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from perturb import rounded_kv, rounding, sensitivity

HERE = pathlib.Path(__file__).parent
LENGTHS = [1, 5, 17, 63, 64, 65, 150, 311]
NEW_TOKENS = 64
DISTINCT_MIN = 32
MARGIN_MIN = 1e-2
GAINS = {"embed": 3.0, "q": 2.5, "k": 2.5, "v": 1.5, "o": 1.5, "gate": 1.5, "up": 1.5, "down": 1.5, "lm_head": 4.0}
# Without q/k norm the attention scores grow with the hidden values: smaller gains keep the softmax from being a hard choice.
GAINS_WITHOUT_NORM = dict(GAINS, q=1.25, k=1.25)
COMMON = {
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "attention_dropout": 0.0,
}
FAMILIES = {
    "qwen2": {
        "model_type": "qwen2",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 160,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    },
    "qwen2-untied": {
        "model_type": "qwen2",
        "hidden_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "intermediate_size": 192,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
    "qwen3": {
        "model_type": "qwen3",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "intermediate_size": 160,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": True,
    },
    "qwen3-untied": {
        "model_type": "qwen3",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "head_dim": 64,
        "intermediate_size": 192,
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
    "llama": {
        "model_type": "llama",
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 176,
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    },
    "llama3": {
        "model_type": "llama",
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 160,
        "rope_theta": 1e4,
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
}
SEEDS = {"qwen2": 1, "qwen2-untied": 2, "qwen3": 3, "qwen3-untied": 4, "llama": 5, "llama3": 6}
GOLDEN = 0x9E3779B97F4A7C15
MASK = (1 << 64) - 1


def fnv1a64(data: bytes) -> int:
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & MASK
    return value


def splitmix64(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(GOLDEN)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def unit_values(name: str, count: int, seed: int) -> np.ndarray:
    """f of README.md: float32 in [-1, 1), exact multiples of 2^-23; [count]."""
    start = (fnv1a64(name.encode()) + seed * GOLDEN) & MASK
    h = splitmix64(np.arange(count, dtype=np.uint64) + np.uint64(start))
    return (h >> np.uint64(40)).astype(np.float32) / np.float32(2**23) - np.float32(1)


def kind_of(name: str) -> str:
    for kind in ("q", "k", "v", "o", "gate", "up", "down"):
        if f".{kind}_proj." in name:
            return kind
    return "embed" if "embed_tokens" in name else "lm_head"


def tensor(name: str, shape: tuple[int, ...], seed: int, gains: dict[str, float]) -> torch.Tensor:
    f = unit_values(name, int(np.prod(shape)), seed)
    if name.endswith("norm.weight"):
        value = np.float32(1) + np.float32(0.25) * f
    elif name.endswith(".bias"):
        value = np.float32(0.1) * f
    else:
        value = f * np.float32(gains[kind_of(name)] * (3.0 / shape[-1]) ** 0.5)
    return torch.from_numpy(value).to(torch.bfloat16).float().reshape(shape)


def checksum(value: torch.Tensor) -> str:
    """FNV-1a of the bfloat16 bits, little-endian."""
    return f"{fnv1a64(value.to(torch.bfloat16).view(torch.int16).numpy().astype('<i2').tobytes()):016x}"


def build(family: str, seed: int, gains: dict[str, float]):
    config = dict(COMMON, **FAMILIES[family])
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), attn_implementation="eager", dtype=torch.float32).eval()
    sums = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(tensor(name, tuple(p.shape), seed, gains))
            sums[name] = {"shape": list(p.shape), "fnv1a64_bf16": checksum(p)}
    return model, sums


@torch.no_grad()
def logits_of(model, ids: list[int], positions: list[int] | None = None) -> torch.Tensor:
    """[len(ids), vocab]"""
    position_ids = torch.tensor([positions]) if positions else None
    return model(input_ids=torch.tensor([ids]), position_ids=position_ids, use_cache=False).logits[0]


@torch.no_grad()
def greedy(model, ids: list[int]) -> list[int]:
    out, cache, feed = [], None, torch.tensor([ids])
    for _ in range(NEW_TOKENS):
        result = model(input_ids=feed, past_key_values=cache, use_cache=True)
        cache = result.past_key_values
        feed = result.logits[:, -1].argmax(-1, keepdim=True)
        out.append(int(feed))
    return out


def acceptable(model, ids: list[int], out: list[int]) -> bool:
    """One uncached pass over everything must agree with the cached steps, by a clear margin, also where the KV cache holds bfloat16."""
    if len(set(out)) < DISTINCT_MIN:
        return False
    rows = logits_of(model, ids + out)[len(ids) - 1 : -1]
    top = rows.topk(2, dim=-1)
    if top.indices[:, 0].tolist() != out or (top.values[:, 0] - top.values[:, 1]).min() < MARGIN_MIN:
        return False
    with rounded_kv(model, torch.bfloat16):
        return logits_of(model, ids + out)[len(ids) - 1 : -1].argmax(-1).tolist() == out


def row_entry(rows: torch.Tensor, position: int) -> dict:
    return {"position": position, "values_b64": base64.b64encode(rows[position].numpy().astype("<f4").tobytes()).decode()}


def find_prompt(model, length: int, rng: np.random.Generator) -> tuple[list[int], list[int]]:
    for _ in range(400):
        ids = rng.integers(0, COMMON["vocab_size"], length).tolist()
        out = greedy(model, ids)
        if acceptable(model, ids, out):
            return ids, out
    raise SystemExit(f"no acceptable prompt of {length} tokens: change the seed or the gains")


def make(family: str) -> None:
    seed = SEEDS[family]
    gains = GAINS if FAMILIES[family]["model_type"] == "qwen3" else GAINS_WITHOUT_NORM
    model, sums = build(family, seed, gains)
    rng = np.random.default_rng(1000 + seed)
    prompts = []
    for length in LENGTHS:
        ids, out = find_prompt(model, length, rng)
        rows = logits_of(model, ids + out)
        positions = sorted({length // 2, length - 1, length + NEW_TOKENS - 2})
        prompts.append({"ids": ids, "greedy_ids": out, "logits": [row_entry(rows, p) for p in positions]})
    config = dict(COMMON, **FAMILIES[family], architectures=model.config.architectures or [type(model).__name__], hidden_act="silu")
    fixture = {
        "family": family,
        "hf_config": config,
        "seed": seed,
        "gains": gains,
        "tensors": sums,
        "prompts": prompts,
        "sensitivity": sensitivity(model, prompts[4:7]),
        "rounding": rounding(model, prompts),
        "provenance": {
            "transformers": transformers.__version__,
            "torch": torch.__version__.split("+")[0],
            "dtype": "float32",
            "attention": "eager",
        },
    }
    text = json.dumps(fixture)
    (HERE / f"{family}.json").write_text(text + "\n")
    print(family, len(text), "bytes", json.dumps({**fixture["sensitivity"], **fixture["rounding"]}))


if __name__ == "__main__":
    torch.set_num_threads(1)
    for chosen in sys.argv[1:] or FAMILIES:
        make(chosen)
