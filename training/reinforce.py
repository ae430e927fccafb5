"""Goes on from the trained weights by trial: fills holes of training files, and makes fills likelier that keep the file parseable.

    python reinforce.py MODEL_DIR --stop-at HH:MM

MODEL_DIR is what export.py wrote. The reward of a fill that ends by itself, in one line, and leaves a file that parses is 0.4 plus
0.6 times its similarity to the line that was there, so that an empty phrase which always parses earns little; of any other fill it
is 0. REINFORCE with the mean of a hole's own samples as baseline (Williams 1992; the group baseline as in Shao et al. 2024), and
steps on ordinary rows in between, which hold the model to what it has learned. Held-out files take no part.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import pathlib
import random
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoModelForCausalLM

from evaluate import code_lines, parses, read
from model import Config, Model, sees
from rows import MIDDLE_WEIGHT
from train import wall_clock

ROOT = pathlib.Path(os.environ.get("QUERN_TRAINING_DIR", ".training"))
FILE_CHARS = (300, 9_000)
TOKENS_MAX = 32
PARSE_REWARD = 0.4
PROBE_HOLES = 96
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Hole:
    before: str
    middle: str
    after: str
    prompt: list[int]


class Holes:
    """Whole lines of Python code without their indentation, as evaluate.py asks for them, from the training files."""

    def __init__(self, seed: int) -> None:
        tokenizer = Tokenizer.from_file(str(ROOT / "tokenizer.json"))
        self.encode = lambda text: tokenizer.encode(text, add_special_tokens=False).ids
        self.decode = lambda ids: tokenizer.decode(ids, skip_special_tokens=False)
        self.end, self.prefix, self.middle, self.suffix = (
            tokenizer.token_to_id(f"<|{n}|>") for n in ("endoftext", "fim_prefix", "fim_middle", "fim_suffix")
        )
        self.texts = [f["text"] for f in read("train") if f["language"] == "python" and FILE_CHARS[0] <= len(f["text"]) <= FILE_CHARS[1]]
        self.rng = random.Random(seed)

    def next(self) -> Hole:
        while True:
            text = self.rng.choice(self.texts)
            if not parses(text):
                continue
            try:
                choice = code_lines(text)
            except (SyntaxError, IndentationError):
                continue
            if choice:
                return self.hole(text, self.rng.choice(choice))

    def hole(self, text: str, i: int) -> Hole:
        lines = text.split("\n")
        line = lines[i]
        start = sum(len(x) + 1 for x in lines[:i]) + len(line) - len(line.lstrip())
        before, after = text[:start], text[start + len(line.strip()) :]
        near = before[-self.rng.choice((200, 400, 700)) :]
        near = near[near.find("\n") + 1 :] if len(near) < len(before) else near
        tail = after[: self.rng.choice((100, 200, 400))]
        prompt = [self.prefix, self.suffix, *self.encode(tail), self.middle, *self.encode(near)]
        return Hole(before, line.strip(), after, prompt)


def reward(hole: Hole, text: str, ended: bool) -> float:
    if not ended or "\n" in text or not text.strip() or not parses(hole.before + text + hole.after):
        return 0.0
    return PARSE_REWARD + (1 - PARSE_REWARD) * difflib.SequenceMatcher(None, hole.middle, text.strip(), autojunk=False).ratio()


@torch.no_grad()
def sample(model, holes: list[Hole], copies: int, end: int, temperature: float) -> list[list[int]]:
    """`copies` fills of each hole in turn, each with its end token if it came to one; temperature 0: the likeliest."""
    length = max(len(h.prompt) for h in holes)
    ids = torch.tensor([[end] * (length - len(h.prompt)) + h.prompt for h in holes])
    mask = torch.tensor([[0] * (length - len(h.prompt)) + [1] * len(h.prompt) for h in holes])
    out = model(input_ids=ids, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0), use_cache=True, logits_to_keep=1)
    cache, logits = out.past_key_values, out.logits[:, -1].repeat_interleave(copies, 0)
    cache.batch_repeat_interleave(copies)
    mask = mask.repeat_interleave(copies, 0)
    position = mask.sum(1, keepdim=True)
    made, done = [], torch.zeros(len(holes) * copies, dtype=torch.bool)
    for _ in range(TOKENS_MAX):
        chosen = logits.argmax(-1) if temperature == 0 else torch.multinomial((logits.float() / temperature).softmax(-1), 1)[:, 0]
        made.append(torch.where(done, -1, chosen))
        done |= chosen == end
        if done.all():
            break
        mask = torch.cat((mask, torch.ones(len(mask), 1, dtype=mask.dtype)), 1)
        out = model(input_ids=chosen[:, None], attention_mask=mask, position_ids=position, past_key_values=cache, use_cache=True)
        logits, position = out.logits[:, -1], position + 1
    return [[t for t in row if t >= 0] for row in torch.stack(made, 1).tolist()]


def text_of(holes: Holes, made: list[int]) -> tuple[str, bool]:
    ended = made[-1] == holes.end
    return holes.decode(made[:-1] if ended else made), ended


def policy_loss(model: Model, prompts: list[list[int]], fills: list[list[int]], advantage: Tensor) -> Tensor:
    """advantage [fills] -> sum over the fills' tokens of -advantage * log p, not yet divided."""
    length = max(len(p) + len(f) for p, f in zip(prompts, fills))
    ids = torch.tensor([p + f + [0] * (length - len(p) - len(f)) for p, f in zip(prompts, fills)])
    where = [(i, len(p) + j - 1) for i, (p, f) in enumerate(zip(prompts, fills)) for j in range(len(f))]
    row, column = (torch.tensor(x) for x in zip(*where))
    logits = F.linear(model.hidden(ids)[row, column], model.embed_tokens.weight) / TEMPERATURE
    cost = F.cross_entropy(logits, torch.tensor([t for f in fills for t in f]), reduction="none")
    return (cost * advantage[row]).sum()


def row_loss(model: Model, data: tuple[np.ndarray, np.ndarray], at: int, count: int, end: int, middle_weight: int) -> Tensor:
    """As in train.py, without compilation."""
    index = np.arange(at * count, (at + 1) * count) % len(data[0])
    ids, weight = (torch.from_numpy(np.asarray(array[index]).astype(np.int64)) for array in data)
    weight = torch.where(weight >= MIDDLE_WEIGHT, (weight - 1) * middle_weight, weight)[:, 1:].flatten().float()
    each = F.cross_entropy(model(ids[:, :-1], sees(ids[:, :-1], end)), ids[:, 1:].flatten(), reduction="none")
    return (each * weight).sum() / weight.sum()


def probe(model, holes: Holes, cases: list[Hole]) -> dict[str, float]:
    """Greedy fills of holes that training never sees."""
    rewards, exact = [], 0
    for at in range(0, len(cases), 32):
        part = cases[at : at + 32]
        for hole, made in zip(part, sample(model, part, 1, holes.end, 0.0)):
            text, ended = text_of(holes, made)
            rewards.append(reward(hole, text, ended))
            exact += text.strip() == hole.middle
    return {"parses": sum(r > 0 for r in rewards) / len(cases), "reward": sum(rewards) / len(cases), "exact": exact / len(cases)}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--stop-at", required=True)
    parser.add_argument("--holes", type=int, default=24, help="per step")
    parser.add_argument("--copies", type=int, default=6, help="fills of each")
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--rows-weight", type=float, default=0.5)
    parser.add_argument("--rows", default="-blocks")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.manual_seed(2)
    torch.set_num_threads(args.threads)
    stop_at, began = wall_clock(args.stop_at), time.time()
    sampler = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    model, state = Model(Config()), torch.load(ROOT / "weights.pt")
    model.load_state_dict({name: value.float() for name, value in state["model"].items()})
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    holes = Holes(seed=7)
    apart = {holes.texts.pop() for _ in range(200)}
    dev = Holes(seed=8)
    dev.texts = sorted(apart)
    cases = [dev.next() for _ in range(PROBE_HOLES)]
    data = tuple(np.load(ROOT / f"{kind}{args.rows}.npy", mmap_mode="r") for kind in ("rows", "weights"))
    log, step = (ROOT / "reinforce.jsonl").open("a"), 0

    def tell(**record) -> None:
        print(json.dumps({"step": step, **record, "seconds": round(time.time() - began)}), file=log, flush=True)

    def sync() -> None:
        sampler.load_state_dict({f"model.{name}": value for name, value in model.state_dict().items()}, strict=False)

    def save() -> None:
        bf16 = {name: p.to(torch.bfloat16) for name, p in model.state_dict().items()}
        content = {"model": bf16, "step": state["step"], "tokens": state["tokens"], "reinforced": step}
        torch.save(content, ROOT / "weights-reinforced.pt.new")
        os.replace(ROOT / "weights-reinforced.pt.new", ROOT / "weights-reinforced.pt")

    while time.time() < stop_at:
        sync()
        if step % 20 == 0:
            tell(probe=probe(sampler, holes, cases))
            save()
        batch = sorted((holes.next() for _ in range(args.holes)), key=lambda h: len(h.prompt))
        fills = sample(sampler, batch, args.copies, holes.end, TEMPERATURE)
        rewards = torch.tensor([reward(batch[i // args.copies], *text_of(holes, f)) for i, f in enumerate(fills)]).view(args.holes, -1)
        advantage = ((rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 0.1)).flatten()
        useful = [i for i in range(len(fills)) if abs(advantage[i].item()) > 1e-3]
        divisor = sum(len(fills[i]) for i in useful) or 1
        for at in range(0, len(useful), 24):
            part = useful[at : at + 24]
            prompts = [batch[i // args.copies].prompt for i in part]
            (policy_loss(model, prompts, [fills[i] for i in part], advantage[part]) / divisor).backward()
        (args.rows_weight * row_loss(model, data, step, 1, holes.end, 5)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1.0, (step + 1) / 10, max(0.0, (stop_at - time.time()) / 300))
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        tell(reward=round(rewards.mean().item(), 4), parses=round((rewards > 0).float().mean().item(), 4), useful=len(useful))
    sync()
    tell(probe=probe(sampler, holes, cases))
    save()


if __name__ == "__main__":
    main()
