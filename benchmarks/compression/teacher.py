"""The model that the benchmarks of compression start from: trained once, kept in a cache folder outside of the repository.

    python -m benchmarks.compression.teacher [--seed 0] [--tokens 2.5e6] [--to DIR]

A decoder of 6 layers and width 256 over bytes, 4.2 million parameters: attention of 4 heads with 2 of keys, a gated SiLU MLP of 640
channels, trained on the default corpus. DIR/seed0 is a folder as `nas-bo train` writes it. A training that was killed continues.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import time
from pathlib import Path

from nas_bo import provenance, serialization
from nas_bo.architecture import Architecture, Node
from nas_bo.export import folder as files
from nas_bo.model import Training, load_corpus
from nas_bo.objectives import ValidationLoss

SETTINGS: dict[str, float] = {"lr": 3e-3, "batch_size": 8, "sequence": 128}
MIXER = Node({"kind": "attention", "heads": 4, "kv_group": 2})
MLP = Node({"kind": "dense", "ratio": 2.5, "activation": "silu", "gated": True})


def architecture(width: int = 256, depth: int = 6) -> Architecture:
    layer = Node({"mixer": MIXER, "mlp": MLP})
    return Architecture(Node({"width": width, "layers": (layer,) * depth}), {})


def cache() -> Path:
    return Path(os.environ.get("NAS_BO_CACHE", Path.home() / ".cache" / "nas_bo")) / "teacher"


def trained(folder: Path, seed: int = 0, tokens: float = 2.5e6, width: int = 256, depth: int = 6) -> Path:
    """The folder of the teacher of a seed, which is trained where it is not there."""
    place = folder / f"seed{seed}"
    if (place / files.ABOUT).exists():
        return place
    arch, corpus = architecture(width, depth), load_corpus()
    files.write(place, {})
    began = last = time.monotonic()

    def said(step: int, steps: int, nats: float) -> None:
        nonlocal last
        if time.monotonic() - last > 20 or step == steps:
            last = time.monotonic()
            print(f"step {step} of {steps}: {nats:.3f} nats, {time.monotonic() - began:.0f} s", flush=True)

    run = Training(
        arch, corpus, tokens, seed, settings=SETTINGS, checkpoint=place / "training.pt", progress=said, device="cpu"
    )
    made = run.to()
    loss = ValidationLoss(tokens=float(made.tokens), seed=seed, sequence=128, batch_size=8)
    about = {
        "values": {"bits_per_byte": made.bits_per_byte},
        "units": {"bits_per_byte": "bits/byte"},
        "objective": serialization.describe(loss),
        "tokens": made.tokens,
        "steps": made.steps,
        "seed": seed,
        "parameters": made.parameters,
        "settings": made.settings,
        "cpu_seconds": round(made.cpu_seconds, 1),
        "corpus": {"name": corpus.name, "sha256": corpus.fingerprint},
        "tokenizer": corpus.tokenizer,
        "provenance": {"versions": provenance.versions()},
    }
    files.write(place, files.files(made.model, arch, about, ()))
    (place / "training.pt").unlink(missing_ok=True)
    return place


def described(place: Path) -> dict[str, float]:
    """The figures of a teacher that a result rests on."""
    said = files.about(place)
    return {
        "bits_per_byte": said["values"]["bits_per_byte"],
        "tokens": said["tokens"],
        "parameters": said["parameters"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tokens", type=float, default=2.5e6)
    parser.add_argument("--to", type=Path, default=cache())
    given = parser.parse_args()
    place = trained(given.to, given.seed, given.tokens)
    print(place, files.about(place)["values"])


if __name__ == "__main__":
    main()
