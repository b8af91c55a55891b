"""Writes the files of one version, to be read by all later ones: ``python -m tests.compatibility.make FOLDER``.

Those in tests/data/v0_1 were written by version 0.1.0, before blocks had files of their own.
"""

from __future__ import annotations

import gzip
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from nas_bo import profile, search
from nas_bo.architecture import Architecture
from nas_bo.hardware import memory
from nas_bo.hardware.latency.profile import Kind, Profile
from nas_bo.hardware.workload import Setting, workload
from nas_bo.model import (
    active_parameters,
    build,
    evaluate,
    flops,
    kv_cache_bytes,
    label,
    load_corpus,
    parameters,
    train,
)
from nas_bo.objectives import Flops, Parameters
from nas_bo.report.drawing import drawing
from nas_bo.search_spaces import NAMED
from nas_bo.strategies import Random
from nas_bo.supernet import Supernet
from nas_bo.supernet.training import train_supernet
from tests.compatibility.spaces import Small, Smaller, busy, text

KINDS: tuple[Kind, ...] = ("learned", "roofline")
SETTINGS = (Setting(context=70), Setting("decode", 2, 40, "bfloat16", 100))


def architectures() -> dict[str, list[Architecture]]:
    found = {name: [space.sample(seed) for seed in range(3)] for name, space in NAMED.items()}
    return {**found, "small": [Small.sample(seed) for seed in range(24)]}


def facts(arch: Architecture) -> dict[str, Any]:
    """All that is computed of an architecture."""
    numbers: dict[str, Any] = {
        "parameters": parameters(arch, 256),
        "active": active_parameters(arch, 256),
        "flops": flops(arch, 256, 100, 2),
        "cache": kv_cache_bytes(arch, 300),
        "label": label(arch),
        "training": list(vars(memory.training(arch)).values()),
        "drawing": drawing(arch)[:60] + str(len(drawing(arch))),
    }
    for setting in SETTINGS:
        whole = {"logits": "all"} if "logits" in vars(setting) else {}  # 0.1 knew no other
        work = workload(
            arch, *(getattr(setting, name) for name in ("phase", "batch", "context", "dtype", "vocab_size")), **whole
        )
        rows = [list(one) for one in work.operations]
        numbers[setting.phase] = {
            "operations": len(rows),
            "sums": [sum(row[i] for row in rows) for i in range(2, 8)],
            "weighted": sum((at + 1) * sum(row[2:]) for at, row in enumerate(rows)),
            "names": " ".join(row[1] for row in rows[:14]),
            "memory": list(vars(memory.inference(arch, setting)).values()),
        }
    return numbers


def first_weights(arch: Architecture) -> list[float]:
    """Sums of the weights that a seed gives, and of their absolute values."""
    model = build(arch, 256, generator=torch.Generator().manual_seed(7)).requires_grad_(False)
    return [float(sum(w.double().sum() for w in model.parameters())),
            float(sum(w.double().abs().sum() for w in model.parameters()))]  # fmt: skip


def trained(folder: Path) -> list[dict[str, Any]]:
    corpus = load_corpus(text(folder / "words.txt"))
    found = []
    for seed in (1, 4, 9, 15):
        arch = Small.sample(seed)
        result = train(arch, corpus, 8192, seed, evaluation_tokens=4096)
        found.append({"seed": seed, "label": label(arch), "weights": first_weights(arch), "loss": result.bits_per_byte})
    return found


def continued(folder: Path) -> dict[str, Any]:
    """What becomes of the checkpoint, and what the supernet's weights are worth."""
    corpus = load_corpus(folder / "words.txt")
    run = train(Smaller.sample(2), corpus, 8192, 5, checkpoint=folder / "run.pt", evaluation_tokens=4096)
    net = Supernet.load(folder / "supernet.pt", Smaller)
    inherited = [evaluate(net.extract(Smaller.sample(seed)), corpus, 4096) for seed in range(4)]
    found = Profile.load(folder / "profile.json")
    archs = [Small.sample(seed) for seed in range(4)]
    asked = {f"{kind} {one.phase}": list(map(float, found.model(one, kind=kind).predict_many(archs)[0]))
             for one in found.settings for kind in KINDS}  # fmt: skip
    return {
        "predicted": asked,
        "fingerprint": found.fingerprint,
        "resumed": run.resumed,
        "continued": run.bits_per_byte,
        "inherited": inherited,
    }


def main(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    listed = {
        name: [{"id": one.id, "json": one.to_json(), **facts(one)} for one in archs]
        for name, archs in architectures().items()
    }
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        content = {
            "torch": torch.__version__,
            "cpu": torch.backends.cpu.get_cpu_capability(),
            "architectures": listed,
            "trained": trained(folder),
        }
        for name in ("study.db", "study.log"):
            search(
                Small,
                [Parameters(), Flops(), busy],
                strategy=Random(seed=3),
                trials=4,
                storage=str(folder / name),
                retrain=0,
            )
        profile(Small, folder / "profile.json", (Setting(context=16), Setting("decode", context=16)), architectures=6,
                lookup=True, clock="cpu", max_seconds=0.05, name="old box")  # fmt: skip
        corpus = load_corpus(folder / "words.txt")
        train(Smaller.sample(2), corpus, 8192, 5, stop_at=0.5, checkpoint=folder / "run.pt", evaluation_tokens=4096)
        train_supernet(Smaller, corpus, 4096, 0, checkpoint=folder / "supernet.pt")
        for path in sorted(folder.iterdir()):
            if path.name != "words.txt" and not path.name.endswith((".part", ".png", ".lock")):
                (out / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
        content |= continued(folder)
    text_of = json.dumps(content, indent=None, separators=(",", ":"))
    (out / "facts.json.gz").write_bytes(gzip.compress(text_of.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
