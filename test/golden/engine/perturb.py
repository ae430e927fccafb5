"""Proves that a fixture would notice the usual mistakes: each is made on purpose in the reference, and the change is measured."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import torch


def relative_change(a: torch.Tensor, b: torch.Tensor) -> float:
    """Largest logit difference over the root mean square of the right ones."""
    return float((a - b).abs().max() / a.pow(2).mean().sqrt())


@contextmanager
def replaced(owner, name: str, value):
    old = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


def interleaved(x: torch.Tensor) -> torch.Tensor:
    """rotate_half as if pairs were (2i, 2i + 1)."""
    return torch.stack((-x[..., 1::2], x[..., ::2]), dim=-1).flatten(-2)


def tiled(x: torch.Tensor, repeats: int) -> torch.Tensor:
    """repeat_kv with query head h reading key head h % kv_heads."""
    return x.repeat(1, repeats, 1, 1)


@contextmanager
def without_qk_norm(model):
    norms = [norm for layer in model.model.layers for norm in (layer.self_attn.q_norm, layer.self_attn.k_norm)]
    old = [norm.forward for norm in norms]
    for norm in norms:
        norm.forward = lambda x: x
    try:
        yield
    finally:
        for norm, forward in zip(norms, old):
            norm.forward = forward


@contextmanager
def with_eps(model, eps: float):
    norms = [m for m in model.modules() if hasattr(m, "variance_epsilon")]
    old = [norm.variance_epsilon for norm in norms]
    for norm in norms:
        norm.variance_epsilon = eps
    try:
        yield
    finally:
        for norm, value in zip(norms, old):
            norm.variance_epsilon = value


@contextmanager
def without_bias(model):
    biases = [p for name, p in model.named_parameters() if name.endswith(".bias")]
    old = [p.detach().clone() for p in biases]
    for p in biases:
        p.data.zero_()
    try:
        yield
    finally:
        for p, value in zip(biases, old):
            p.data.copy_(value)


@contextmanager
def without_rope_scaling(model):
    rope, c = model.model.rotary_emb, model.config
    dim = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    plain = 1.0 / (10000.0 ** (torch.arange(0, dim, 2, dtype=torch.float32) / dim))
    old = rope.inv_freq
    rope.inv_freq = plain
    try:
        yield
    finally:
        rope.inv_freq = old


@torch.no_grad()
def sensitivity(model, prompts: list[dict]) -> dict[str, dict[str, float]]:
    """For each mistake: the least relative change of logits at any generated step of any prompt, and how many greedy tokens change."""
    module = sys.modules[type(model).__module__]
    c = model.config
    cases = {
        "rope pairs (2i, 2i+1)": lambda: replaced(module, "rotate_half", interleaved),
        "eps 1e-3": lambda: with_eps(model, 1e-3),
        "generated positions + 1": None,
    }
    if c.num_key_value_heads > 1:
        cases["query head h reads kv head h % kv_heads"] = lambda: replaced(module, "repeat_kv", tiled)
    if c.model_type == "qwen3":
        cases["no q/k norm"] = lambda: without_qk_norm(model)
    if c.model_type == "qwen2":
        cases["no q, k, v bias"] = lambda: without_bias(model)
    if (getattr(c, "rope_parameters", None) or {}).get("rope_type") == "llama3":
        cases["no rope scaling"] = lambda: without_rope_scaling(model)
    report = {}
    for name, context in cases.items():
        least, changed = float("inf"), 0
        for prompt in prompts:
            ids, start = prompt["ids"] + prompt["greedy_ids"], len(prompt["ids"])
            right = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, start:-1]
            if context is None:
                positions = torch.tensor([[i + (i >= start) for i in range(len(ids))]])
                wrong = model(input_ids=torch.tensor([ids]), position_ids=positions, use_cache=False).logits[0, start:-1]
            else:
                with context():
                    wrong = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, start:-1]
            least = min(least, *(relative_change(a, b) for a, b in zip(right, wrong)))
            changed += int((right.argmax(-1) != wrong.argmax(-1)).sum())
        report[name] = {"least_relative_logit_change": round(least, 5), "greedy_tokens_changed": changed}
    return report


def rounded_kv(model, dtype: torch.dtype):
    """Keys (after RoPE) and values go through a narrower type, as in a KV cache of that type."""
    module = sys.modules[type(model).__module__]
    plain = module.repeat_kv
    return replaced(module, "repeat_kv", lambda x, repeats: plain(x.to(dtype).float(), repeats))


@torch.no_grad()
def rounding(model, prompts: list[dict]) -> dict[str, dict[str, float]]:
    """How far honest arithmetic may differ: the largest relative logit change over all positions, and greedy tokens that change."""
    report = {}
    for name, dtype in (
        ("float64 throughout", None),
        ("bfloat16 keys and values", torch.bfloat16),
        ("float16 keys and values", torch.float16),
    ):
        largest, changed = 0.0, 0
        for prompt in prompts:
            ids, start = torch.tensor([prompt["ids"] + prompt["greedy_ids"]]), len(prompt["ids"]) - 1
            right = model(input_ids=ids, use_cache=False).logits[0, :-1]
            if dtype:
                with rounded_kv(model, dtype):
                    other = model(input_ids=ids, use_cache=False).logits[0, :-1]
            else:
                other = model.double()(input_ids=ids, use_cache=False).logits[0, :-1].float()
                model.float()
            largest = max(largest, *(relative_change(a, b) for a, b in zip(right, other)))
            changed += int((right.argmax(-1) != other.argmax(-1))[start:].sum())
        report[name] = {"largest_relative_logit_change": float(f"{largest:.3g}"), "greedy_tokens_changed": changed}
    return report
