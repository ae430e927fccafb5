"""Trains the byte-level BPE vocabulary: Qwen2's text splitting and special-token names, 8192 ids in all.

python tokenizer.py      reads corpus/train.jsonl, writes tokenizer.json
"""

from __future__ import annotations

import json
import os
import pathlib

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

ROOT = pathlib.Path(os.environ.get("QUERN_TRAINING_DIR", ".training"))
VOCAB_SIZE = 8192
SAMPLE_BYTES = 24_000_000
# Name and whether it is special in the tokenizers sense, both as in Qwen2.5-Coder and Qwen3.
ADDED = [
    ("<|endoftext|>", True),
    ("<|im_start|>", True),
    ("<|im_end|>", True),
    ("<tool_call>", False),
    ("</tool_call>", False),
    ("<|fim_prefix|>", False),
    ("<|fim_middle|>", False),
    ("<|fim_suffix|>", False),
    ("<|fim_pad|>", False),
    ("<|repo_name|>", False),
    ("<|file_sep|>", False),
    ("<tool_response>", False),
    ("</tool_response>", False),
    ("<think>", False),
    ("</think>", False),
]
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def sample():
    size = 0
    with (ROOT / "corpus/train.jsonl").open() as rows:
        for line in rows:
            text = json.loads(line)["text"]
            size += len(text)
            yield text
            if size > SAMPLE_BYTES:
                return


def main() -> None:
    tokenizer = Tokenizer(models.BPE(dropout=None, unk_token=None, continuing_subword_prefix="", end_of_word_suffix="", fuse_unk=False))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel(add_prefix_space=True, trim_offsets=True, use_regex=True)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(ADDED),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
        max_token_length=24,
    )
    tokenizer.train_from_iterator(sample(), trainer)
    for name, special in ADDED:
        token = AddedToken(name, single_word=False, lstrip=False, rstrip=False, normalized=False, special=special)
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)([token])
    tokenizer.post_processor = processors.TemplateProcessing(single="$A:0", pair="$A:0 $B:1", special_tokens=[])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE, tokenizer.get_vocab_size()
    tokenizer.save(str(ROOT / "tokenizer.json"))
    text = next(sample())
    print("bytes per token on the first file:", len(text.encode()) / len(tokenizer.encode(text).ids))


if __name__ == "__main__":
    main()
