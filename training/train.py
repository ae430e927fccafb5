"""Trains the model on CPU in float32; resumable; the learning rate ends by the wall clock.

    python train.py --decay-from 11:00 --stop-at 11:35 [--steps N] [--optimizer muon|adamw] [--resume]

Matrices of the blocks are trained with Muon (Jordan et al. 2024), the embedding and the norms with AdamW.
Schedule: warm-up, constant, linear to zero.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import safe_open
from tokenizers import Tokenizer
from torch import Tensor

from model import Config, Model, sees
from rows import MIDDLE_WEIGHT

ROOT = pathlib.Path(os.environ.get("QUERN_TRAINING_DIR", ".training"))
WARM_UP_STEPS = 60
CHECKPOINT_EVERY = 50
END = Tokenizer.from_file(str(ROOT / "tokenizer.json")).token_to_id("<|endoftext|>")


def orthogonalise(g: Tensor) -> Tensor:
    """Five Newton-Schulz steps towards the nearest orthogonal matrix; g [n, rows, cols], rows <= cols."""
    x = g / (g.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + torch.baddbmm(-4.7750 * a, a, a, alpha=2.0315) @ x
    return x


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised per matrix; matrices of one shape go through one batched product."""

    def __init__(self, parameters, lr: float, momentum: float = 0.95, weight_decay: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[tuple[Tensor, Tensor]]] = {}
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                shapes.setdefault(tuple(p.shape), []).append((p, p.grad.lerp(buffer, group["momentum"])))
            for (rows, columns), pairs in shapes.items():
                update = torch.stack([u if rows <= columns else u.mT for _, u in pairs])
                update = orthogonalise(update)
                scale = group["lr"] * max(1.0, rows / columns) ** 0.5
                for (p, _), u in zip(pairs, update):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(u if rows <= columns else u.mT, alpha=-scale)


def wall_clock(text: str) -> float:
    hour, minute = map(int, text.split(":"))
    return datetime.datetime.now().replace(hour=hour, minute=minute, second=0, microsecond=0).timestamp()


def optimizers(model: Model, args) -> list[torch.optim.Optimizer]:
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim != 2 or "embed" in name]
    if args.optimizer == "adamw":
        chosen = [torch.optim.AdamW(matrices + others, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.01, fused=True)]
    else:
        chosen = [
            Muon(matrices, lr=args.muon_lr, weight_decay=0.05),
            torch.optim.AdamW(others, lr=args.adam_lr, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
        ]
    for optimizer in chosen:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return chosen


def load_rows() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Ids and loss weights of each kind of row; see rows.py."""
    kinds = [suffix for suffix in ("", "-long", "-infill", "-tail", "-lines", "-blocks") if (ROOT / f"rows{suffix}.npy").exists()]
    return {kind: (np.load(ROOT / f"rows{kind}.npy", mmap_mode="r"), np.load(ROOT / f"weights{kind}.npy", mmap_mode="r")) for kind in kinds}


def batch_at(data: dict, kind: str, step: int, batch: int) -> tuple[Tensor, Tensor]:
    """Ids and loss weights of one step, [rows, length + 1]; long rows are fewer, so every step has the same number of tokens."""
    count, turn = (max(1, batch // 4), step // 6) if kind == "-long" else (batch, step)
    at = np.arange(turn * count, (turn + 1) * count) % len(data[kind][0])
    ids, weight = (torch.from_numpy(np.asarray(array[at]).astype(np.int64)) for array in data[kind])
    return ids, weight


class ThreadChoice:
    """One thread while other work wants the machine, two while it is idle.

    Two threads meet at the end of every operation: where one of them waits for a core, the other spins.
    """

    def __init__(self) -> None:
        self.mark = self.now()

    @staticmethod
    def now() -> tuple[float, float, float]:
        """Wall seconds, this process's CPU seconds, the machine's idle CPU seconds."""
        fields = pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()
        return time.monotonic(), time.process_time(), (int(fields[4]) + int(fields[5])) / os.sysconf("SC_CLK_TCK")

    def update(self) -> None:
        """Call once per step."""
        wall, used, idle = (new - old for new, old in zip(self.now(), self.mark, strict=True))
        if wall < 2.0:
            return
        self.mark = self.now()
        if torch.get_num_threads() == 2 and used < 1.6 * wall:
            torch.set_num_threads(1)
        elif torch.get_num_threads() == 1 and idle > 0.6 * wall:
            torch.set_num_threads(2)


def save(model: Model, chosen: list, step: int, tokens: int) -> None:
    """weights.pt is what is worth keeping (bfloat16); local.pt has the optimizer too and is only for resuming here."""
    bf16 = {name: p.to(torch.bfloat16) for name, p in model.state_dict().items()}
    for name, content in (
        ("weights.pt", {"model": bf16, "step": step, "tokens": tokens}),
        ("local.pt", {"model": model.state_dict(), "optimizers": [o.state_dict() for o in chosen], "step": step, "tokens": tokens}),
    ):
        torch.save(content, ROOT / (name + ".new"))
        os.replace(ROOT / (name + ".new"), ROOT / name)


def load_exported(model: Model, path: str) -> tuple[int, int]:
    """Loads bfloat16 weights written by export.py; returns the step and the tokens seen so far."""
    with safe_open(path, framework="pt") as file:
        model.load_state_dict({name.removeprefix("model."): file.get_tensor(name).float() for name in file.keys()})
        return int(file.metadata()["step"]), int(file.metadata()["tokens"])


def weighted_loss(model: Model, ids: Tensor, target: Tensor, weight: Tensor, mask: Tensor | None) -> Tensor:
    """ids [rows, length], target and weight [rows * length], mask as in model.py -> mean nats per token."""
    each = F.cross_entropy(model(ids, mask), target, reduction="none")
    return (each * weight).sum() / weight.sum()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--decay-from", default="23:58")
    parser.add_argument("--stop-at", default="23:59")
    parser.add_argument("--steps", type=int, default=10**9)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--optimizer", choices=["muon", "adamw"], default="muon")
    parser.add_argument("--muon-lr", type=float, default=0.012)
    parser.add_argument("--adam-lr", type=float, default=0.003)
    parser.add_argument("--long-from", default="23:57", help="from then on every sixth step takes rows of 2048 tokens")
    parser.add_argument("--rows", choices=["", "infill", "tail", "lines", "blocks"], default="", help="which rows; see rows.py")
    parser.add_argument("--compile", action="store_true", help="torch.compile: a minute to start, then about 1.3 times as fast")
    parser.add_argument("--middle-weight", type=int, default=2, help="loss weight of infill middles and chat answers")
    parser.add_argument("--document-mask", action="store_true", help="let no document see the one before it in its row")
    parser.add_argument("--resume", action="store_true", help="go on from local.pt, optimizer and all")
    parser.add_argument("--from-model", help="go on from an exported model.safetensors, with a new optimizer and a new warm-up")
    parser.add_argument("--threads", type=int, help="keep to so many; default: one or two, by what else the machine does")
    parser.add_argument("--trial", action="store_true", help="save nothing")
    args = parser.parse_args()
    decay_from, stop_at, long_from = (wall_clock(at) for at in (args.decay_from, args.stop_at, args.long_from))
    torch.manual_seed(1)
    data = load_rows()
    model = Model(Config())
    chosen, step, tokens = optimizers(model, args), 0, 0
    if args.resume:
        state = torch.load(ROOT / "local.pt")
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(chosen, state["optimizers"]):
            optimizer.load_state_dict(saved)
        step, tokens = state["step"], state["tokens"]
    if args.from_model:
        step, tokens = load_exported(model, args.from_model)
    fresh_from = step if args.from_model else 0
    forward = torch.compile(weighted_loss) if args.compile else weighted_loss
    log = None if args.trial else (ROOT / "loss.jsonl").open("a")
    losses, began, threads = [], time.time(), ThreadChoice() if args.threads is None else None
    torch.set_num_threads(args.threads or 2)
    while step < args.steps and time.time() < stop_at:
        kind = args.rows and f"-{args.rows}"
        if step % 6 == 0 and time.time() >= long_from:
            kind = "-long"
        ids, weight = batch_at(data, kind, step, args.batch)
        factor = min(1.0, (step - fresh_from + 1) / WARM_UP_STEPS, max(0.0, (stop_at - time.time()) / (stop_at - decay_from)))
        for optimizer in chosen:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * factor
        weight = torch.where(weight >= MIDDLE_WEIGHT, (weight - 1) * args.middle_weight, weight)
        mask = sees(ids[:, :-1], END) if args.document_mask else None
        loss = forward(model, ids[:, :-1].contiguous(), ids[:, 1:].flatten(), weight[:, 1:].flatten().float(), mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0 if args.optimizer == "adamw" else 100.0)
        for optimizer in chosen:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        if threads is not None:
            threads.update()
        step, tokens = step + 1, tokens + ids[:, 1:].numel()
        losses.append(loss.item())
        if step % 10 == 0:
            record = {
                "step": step,
                "tokens": tokens,
                "loss": round(sum(losses) / len(losses), 4),
                "lr_factor": round(factor, 4),
                "threads": torch.get_num_threads(),
                "seconds": round(time.time() - began, 1),
            }
            print(json.dumps(record), file=log, flush=True)
            losses = []
        if step % CHECKPOINT_EVERY == 0 and not args.trial:
            save(model, chosen, step, tokens)
    if not args.trial:
        save(model, chosen, step, tokens)


if __name__ == "__main__":
    main()
