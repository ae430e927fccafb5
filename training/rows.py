"""Turns the corpus into training rows with a loss weight for each id.

    python rows.py           30,000 rows of 513 ids: rows.npy (uint16 [n, 513]) and weights.npy (uint8 [n, 513])
    python rows.py --long    1,500 rows of 2,049 ids, from the other end of the corpus: rows-long.npy and weights-long.npy
    python rows.py --infill  26,000 rows of 513 ids for the second part of the training: mostly infill, suffix first
    python rows.py --tail    9,000 rows of 513 ids for its last part, from the other end: mostly single lines, more Python
    python rows.py --lines   20,000 rows of 513 ids for a third part: whole lines of short pieces, so that a row has many middles
    python rows.py --blocks  16,000 rows of 513 ids for a fourth: lines that open a block as often as others, so that the suffix decides

Documents become plain text or fill-in-the-middle samples (Bavarian et al. 2022), the parts encoded separately, in one of two
orders: Qwen2.5-Coder's, <|fim_prefix|>P<|fim_suffix|>S<|fim_middle|>M<|endoftext|>, or the suffix first with the middle going on
exactly where the prefix ends, <|fim_prefix|><|fim_suffix|>S<|fim_middle|>P M<|endoftext|>. About 2 % of the rows are chat.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import random
import sys
from dataclasses import dataclass, replace

import numpy as np
from tokenizers import Tokenizer

from chat import conversation

ROOT = pathlib.Path(os.environ.get("QUERN_TRAINING_DIR", ".training"))


@dataclass(frozen=True)
class Shape:
    rows: int
    length: int
    piece_chars_min: int
    piece_chars_max: int
    suffix: str
    short_pieces: bool = False
    infill_share: float = 0.5
    chat_share: float = 0.02
    suffix_first_share: float = 0.15
    other_languages_share: float = 1.0
    single_line_only_share: float = 0.0
    single_line_kinds: tuple[float, float] = (0.25, 0.80)
    opener_share: float | None = None
    suffix_dropped_share: float = 0.1
    seed: int = 11


SHORT = Shape(rows=30_000, length=513, piece_chars_min=250, piece_chars_max=1500, suffix="")
INFILL = Shape(
    rows=26_000,
    length=513,
    piece_chars_min=200,
    piece_chars_max=1300,
    suffix="-infill",
    infill_share=0.7,
    suffix_first_share=0.85,
    other_languages_share=0.7,
    single_line_only_share=0.6,
    seed=12,
)
TAIL = replace(INFILL, rows=9000, suffix="-tail", infill_share=0.8, other_languages_share=0.4, single_line_only_share=0.9, seed=13)
LINES = replace(
    TAIL,
    rows=20_000,
    piece_chars_min=90,
    piece_chars_max=1200,
    short_pieces=True,
    suffix="-lines",
    infill_share=0.85,
    suffix_first_share=0.95,
    other_languages_share=0.3,
    single_line_only_share=0.94,
    single_line_kinds=(0.25, 0.65),
    seed=15,
)
LONG = Shape(rows=1500, length=2049, piece_chars_min=500, piece_chars_max=6500, suffix="-long")
BLOCKS = replace(
    LINES,
    rows=16_000,
    piece_chars_max=1000,
    suffix="-blocks",
    infill_share=0.97,
    chat_share=0.01,
    suffix_first_share=1.0,
    other_languages_share=0.06,
    single_line_only_share=0.97,
    single_line_kinds=(0.25, 0.62),
    opener_share=0.4,
    suffix_dropped_share=0.03,
    seed=16,
)
MIDDLE_WEIGHT, DECISIVE_WEIGHT = 2, 3


class Encoder:
    def __init__(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(ROOT / "tokenizer.json"))
        ids = self.tokenizer.token_to_id
        self.end, self.prefix, self.middle, self.suffix = (ids(f"<|{n}|>") for n in ("endoftext", "fim_prefix", "fim_middle", "fim_suffix"))
        self.repo, self.file, self.start, self.stop = (ids(f"<|{n}|>") for n in ("repo_name", "file_sep", "im_start", "im_end"))

    def __call__(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def header(self, document: dict) -> list[int]:
        name = document["package"].split(":")[1].split("/")[-1]
        return [self.repo, *self(name + "\n"), self.file, *self(document["path"] + "\n")]


def opens_block(lines: list[str], i: int) -> bool:
    """Whether the next line with text on it stands deeper than line i."""
    following = next((line for line in lines[i + 1 :] if line.strip()), "")
    return len(following) - len(following.lstrip()) > len(lines[i]) - len(lines[i].lstrip())


def choose_line(lines: list[str], shape: Shape, rng: random.Random) -> int | None:
    usable = [i for i, line in enumerate(lines) if len(line.strip()) >= 3]
    if shape.opener_share is None:
        return rng.choice(usable) if usable else None
    usable = [i for i in usable if len("".join(lines[i].split())) >= 8 and not lines[i].lstrip().startswith(("#", "//", "*"))]
    groups = [i for i in usable if opens_block(lines, i)], [i for i in usable if not opens_block(lines, i)]
    chosen = groups[0 if rng.random() < shape.opener_share else 1] or groups[0] or groups[1]
    return rng.choice(chosen) if chosen else None


def choose_hole(text: str, shape: Shape, rng: random.Random) -> tuple[int, int] | None:
    """Start and end of the middle, in characters. Most holes are single-line, as an editor asks for them."""
    lines, starts, at = text.split("\n"), [], 0
    for line in lines:
        starts.append(at)
        at += len(line) + 1
    i = choose_line(lines, shape, rng)
    if i is None:
        return None
    line = lines[i]
    indent = len(line) - len(line.lstrip())
    # 0 to 0.05 any span, to 0.25 up to six lines, to 0.80 one line or its rest, to 0.90 up to six lines, to 1 a part of a line.
    simple = shape.single_line_only_share > 0 and rng.random() < shape.single_line_only_share
    kind = rng.uniform(*shape.single_line_kinds) if simple else rng.random()
    if kind < 0.05:
        a, b = sorted(rng.randrange(len(text) + 1) for _ in range(2))
        return a, min(b, a + 400)
    column = indent if kind < 0.55 else rng.randrange(indent, len(line))
    begin = starts[i] + column
    if kind > 0.90:
        return begin, starts[i] + rng.randrange(column + 1, len(line) + 1)
    last = i if 0.25 < kind <= 0.80 else min(len(lines) - 1, i + rng.randrange(1, 6))
    return begin, starts[last] + len(lines[last].rstrip())


def infill_sample(encode: Encoder, text: str, document: dict, shape: Shape, rng: random.Random) -> tuple[list[int], list[int]] | None:
    hole = choose_hole(text, shape, rng)
    if hole is None or hole[0] >= hole[1]:
        return None
    prefix, middle = encode(text[: hole[0]]), encode(text[hole[0] : hole[1]])
    suffix = encode(text[hole[1] :]) if rng.random() >= shape.suffix_dropped_share else []
    header = encode.header(document) if rng.random() < 0.08 else []
    spare = shape.length - len(header) - len(prefix) - len(middle) - len(suffix) - 4
    if spare < 0:
        suffix = suffix[: max(len(suffix) + spare, 40)]
        spare = shape.length - len(header) - len(prefix) - len(middle) - len(suffix) - 4
    if spare < 0:
        prefix = prefix[-spare:]
    if rng.random() < shape.suffix_first_share:
        context = [encode.prefix, encode.suffix, *suffix, encode.middle, *prefix]
    else:
        context = [encode.prefix, *prefix, encode.suffix, *suffix, encode.middle]
    ids = header + context + middle + [encode.end]
    if len(ids) > shape.length:
        return None
    decisive = MIDDLE_WEIGHT if shape.opener_share is None else DECISIVE_WEIGHT
    return ids, [1] * (len(header) + len(context)) + [decisive] + [MIDDLE_WEIGHT] * (len(middle) - 1) + [decisive]


def piece_chars(shape: Shape, rng: random.Random) -> int:
    """Even, or with short_pieces even in its logarithm: what decides how a line goes on stands near it, and more middles fit."""
    if not shape.short_pieces:
        return rng.randrange(shape.piece_chars_min, shape.piece_chars_max)
    return round(math.exp(rng.uniform(math.log(shape.piece_chars_min), math.log(shape.piece_chars_max))))


def infill_samples(encode: Encoder, document: dict, shape: Shape, rng: random.Random):
    """Walks one document in pieces, one hole each."""
    text, at = document["text"], 0
    while at < len(text):
        size = piece_chars(shape, rng)
        end = text.find("\n", at + size) + 1 or len(text)
        sample = infill_sample(encode, text[at:end], document, shape, rng)
        if sample:
            yield sample
        at = end


def plain_ids(encode: Encoder, document: dict, rng: random.Random) -> list[int]:
    header = encode.header(document) if rng.random() < 0.15 else []
    return header + encode(document["text"]) + [encode.end]


def chat_sample(encode: Encoder, rng: random.Random) -> tuple[list[int], list[int]]:
    ids, weights = [], []
    for role, text in conversation(rng):
        head, body = [encode.start, *encode(role + "\n")], [*encode(text), encode.stop]
        weight = MIDDLE_WEIGHT if role == "assistant" else 1
        newline = encode("\n")
        ids += head + body + newline
        weights += [1] * len(head) + [weight] * len(body) + [1] * len(newline)
    return ids, weights


class Packer:
    """First fit into a few open rows; a sample never straddles two rows. Padding has weight 0."""

    def __init__(self, pad: int, length: int) -> None:
        self.pad, self.length, self.open, self.rows, self.weights = pad, length, [], [], []

    def add(self, ids: list[int], weights: list[int]) -> None:
        for row in self.open:
            if len(row[0]) + len(ids) <= self.length:
                row[0].extend(ids)
                row[1].extend(weights)
                return
        self.open.append((list(ids), list(weights)))
        if len(self.open) > 12:
            self.close(max(self.open, key=lambda row: len(row[0])))

    def close(self, row: tuple[list[int], list[int]]) -> None:
        self.open.remove(row)
        missing = self.length - len(row[0])
        self.rows.append(np.array(row[0] + [self.pad] * missing, dtype=np.uint16))
        self.weights.append(np.array(row[1] + [0] * missing, dtype=np.uint8))

    def finish(self) -> None:
        while self.open:
            self.close(self.open[0])


def main() -> None:
    shape = next((shape for shape in (INFILL, TAIL, LINES, BLOCKS, LONG) if f"-{shape.suffix}" in sys.argv), SHORT)
    rng, encode = random.Random(shape.seed), Encoder()
    with (ROOT / "corpus/train.jsonl").open() as lines:
        documents = [json.loads(line) for line in lines]
    rng.shuffle(documents)
    if shape in (LONG, TAIL):
        documents.reverse()
    packer, stream, plain = Packer(encode.end, shape.length), [], []
    for document in documents:
        if len(plain) + len(packer.rows) >= shape.rows:
            break
        thinned = shape.other_languages_share < 1 and document["language"] != "python"
        if thinned and rng.random() >= shape.other_languages_share:
            continue
        if rng.random() < shape.infill_share:
            for ids, weights in infill_samples(encode, document, shape, rng):
                packer.add(ids, weights)
        else:
            stream += plain_ids(encode, document, rng)
            while len(stream) >= shape.length:
                plain.append(np.array(stream[: shape.length], dtype=np.uint16))
                stream = stream[shape.length - 1 :]
    packer.finish()
    infill_rows, chats = len(packer.rows), Packer(encode.end, shape.length)
    while len(chats.rows) < shape.chat_share * (len(plain) + infill_rows):
        chats.add(*chat_sample(encode, rng))
    rows = np.stack(plain + packer.rows + chats.rows)
    weights = np.concatenate([np.ones((len(plain), shape.length), dtype=np.uint8), np.stack(packer.weights + chats.weights)])
    order = np.random.default_rng(5).permutation(len(rows))
    np.save(ROOT / f"rows{shape.suffix}.npy", rows[order])
    np.save(ROOT / f"weights{shape.suffix}.npy", weights[order])
    print({"plain": len(plain), "infill": infill_rows, "chat": len(chats.rows), "padding": float((weights == 0).mean())})


if __name__ == "__main__":
    main()
