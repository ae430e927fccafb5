"""Writes the trained weights as a Hugging Face model folder: safetensors in bfloat16, configuration, tokenizer, chat template.

python export.py OUT_DIR
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import sys

import torch
from safetensors.torch import save_file

from model import Config
from tokenizer import ADDED

ROOT = pathlib.Path(os.environ.get("QUERN_TRAINING_DIR", ".training"))
HERE = pathlib.Path(__file__).parent


def configuration(ids: dict[str, int]) -> dict:
    return {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        **dataclasses.asdict(Config()),
        "attention_bias": False,
        "attention_dropout": 0.0,
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "tie_word_embeddings": True,
        "use_cache": True,
        "use_sliding_window": False,
        "sliding_window": None,
        "rope_scaling": None,
        "bos_token_id": None,
        "eos_token_id": ids["<|im_end|>"],
        "pad_token_id": ids["<|endoftext|>"],
        "torch_dtype": "bfloat16",
    }


def tokenizer_configuration(ids: dict[str, int]) -> dict:
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "add_bos_token": False,
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "unk_token": None,
        "pad_token": "<|endoftext|>",
        "errors": "replace",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": False,
        "model_max_length": Config().max_position_embeddings,
        "added_tokens_decoder": {str(ids[name]): {"content": name, **plain, "special": special} for name, special in ADDED},
        "chat_template": (HERE / "chat_template.jinja").read_text().rstrip("\n"),
    }


def main() -> None:
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    state = torch.load(ROOT / "weights.pt")
    tensors = {f"model.{name}": value.to(torch.bfloat16).contiguous() for name, value in state["model"].items()}
    save_file(tensors, out / "model.safetensors.new", metadata={"format": "pt", "step": str(state["step"]), "tokens": str(state["tokens"])})
    os.chmod(out / "model.safetensors.new", 0o644)
    os.replace(out / "model.safetensors.new", out / "model.safetensors")
    tokenizer = json.loads((ROOT / "tokenizer.json").read_text())
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    (out / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, indent=1) + "\n")
    files = {
        "config.json": configuration(ids),
        "tokenizer_config.json": tokenizer_configuration(ids),
        "generation_config.json": {
            "eos_token_id": [ids["<|im_end|>"], ids["<|endoftext|>"]],
            "pad_token_id": ids["<|endoftext|>"],
            "do_sample": False,
        },
        "quern.json": {
            "fim_family": "qwen2.5-coder-spm",
            "tool_parser": "hermes",
            "chat_template": "model",
            "infill_prompt_tokens": 448,  # and an answer of 64: the rows that it was trained on have 512
        },
    }
    for name, content in files.items():
        (out / name).write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    print(f"step {state['step']}, {state['tokens']} tokens, {sum(t.numel() for t in tensors.values())} parameters -> {out}")


if __name__ == "__main__":
    main()
