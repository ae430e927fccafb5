"""Fills in card-template.txt with what was measured and what was used: the model's README.

python card.py ../models/quern-mini/README.md

Reads evaluation.json, loss.jsonl and weights.pt of the training directory and the corpus manifest.
"""

from __future__ import annotations

import collections
import json
import os
import pathlib
import sys
import textwrap

import torch

ROOT = pathlib.Path(os.environ.get("QUERN_TRAINING_DIR", ".training"))
HERE = pathlib.Path(__file__).parent
WIDTH = 118
REGISTRIES = {"pypi": "PyPI", "npm": "npm", "go": "Go", "cargo": "crates.io"}
HOLE_ROWS = {
    "file still parses (`ast.parse`)": "parses cut at the first newline",
    "the same, nothing cut": "parses",
    "exactly the missing line": "exact",
    "model ended by itself": "ended",
}


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def megabytes(by_language: dict[str, int]) -> str:
    return ", ".join(f"{language} {size / 1e6:.1f}" for language, size in by_language.items())


def packages(manifest: dict, split: str) -> str:
    """One paragraph per registry: licence, then the packages under it."""
    paragraphs = []
    for registry, label in REGISTRIES.items():
        by_licence: dict[str, set[str]] = collections.defaultdict(set)
        for package in manifest["packages"]:
            if package["split"] == split and package["registry"] == registry:
                by_licence[package["licence"]].add(f"{package['package']} {package['version']}")
        listed = "; ".join(f"{licence}: {', '.join(sorted(names))}" for licence, names in sorted(by_licence.items()))
        wrapped = textwrap.fill(f"* {label}. {listed}.", WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)
        paragraphs.append(wrapped)
    return "\n".join(paragraphs)


def count(manifest: dict, split: str) -> tuple[int, int]:
    """Files and packages."""
    chosen = [package for package in manifest["packages"] if package["split"] == split]
    return sum(package["files"] for package in chosen), len({(package["registry"], package["package"]) for package in chosen})


def measured(evaluation: dict) -> dict[str, str]:
    short, long = (evaluation[f"bits per byte, windows of {window} tokens"] for window in (512, 2048))
    base = evaluation["baselines"]
    bits = {
        "quern-mini, windows of 512 tokens": short["all"],
        "quern-mini, windows of 2,048 tokens": long["all"],
        "xz -9, the whole sample as one file": base["xz -9"],
        "gzip -9, likewise": base["gzip -9"],
        f"order-5 byte model (Witten-Bell), {base['n-gram training bytes'] / 1e6:.0f} MB of the training text": base["order-5 n-gram"],
    }
    served, other = (evaluation[f"single-line holes, {order}"] for order in ("spm", "psm"))
    return {
        "held_out_bytes": f"{evaluation['held-out bytes']:,}",
        "held_out_files": str(evaluation["held-out files"]),
        "bits_rows": "\n".join(f"| {name} | {value:.3f} |" for name, value in bits.items()),
        "bits_by_language": ", ".join(f"{language} {value:.2f}" for language, value in short.items() if language != "all"),
        "holes": str(served["holes"]),
        "hole_rows": "\n".join(f"| {name} | {percent(served[key])} | {percent(other[key])} |" for name, key in HOLE_ROWS.items()),
        "hole_empty": percent(served["parses with the hole left empty"]),
    }


def used(manifest: dict) -> dict[str, str]:
    files, names = count(manifest, "train")
    held_out_files, held_out_names = count(manifest, "held_out")
    near = manifest["near_duplicates_dropped"]
    return {
        "training_files": f"{files:,}",
        "training_packages": str(names),
        "training_mb": megabytes(manifest["bytes_by_language"]["train"]),
        "held_out_all_files": str(held_out_files),
        "held_out_packages": str(held_out_names),
        "held_out_mb": megabytes(manifest["bytes_by_language"]["held_out"]),
        "near_training": str(near["train"]),
        "near_held_out": str(near["held_out"]),
        "training_list": packages(manifest, "train"),
        "held_out_list": packages(manifest, "held_out"),
    }


def main() -> None:
    state = torch.load(ROOT / "weights.pt")
    losses = [json.loads(line)["loss"] for line in (ROOT / "loss.jsonl").read_text().splitlines()[-5:]]
    text = (HERE / "card-template.txt").read_text()
    values = {
        **measured(json.loads((ROOT / "evaluation.json").read_text())),
        **used(json.loads((HERE / "corpus-manifest.json").read_text())),
        "steps": f"{state['step']:,}",
        "tokens": f"{state['tokens'] / 1e6:.2f}",
        "reinforced": str(state.get("reinforced", 0)),
        "last_losses": ", ".join(f"{loss:.2f}" for loss in losses),
    }
    for name, value in values.items():
        if "{" + name + "}" not in text:
            raise SystemExit(f"card-template.txt has no place for {name}")
        text = text.replace("{" + name + "}", value)
    pathlib.Path(sys.argv[1]).write_text(text)


if __name__ == "__main__":
    main()
