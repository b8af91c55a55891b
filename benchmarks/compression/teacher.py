"""The model that the benchmarks of compression start from: trained once, kept in a cache folder outside of the repository.

    python -m benchmarks.compression.teacher [--seed 0] [--tokens 2.5e6] [--to DIR]

A decoder of 6 layers and width 256 over bytes, 4.2 million parameters: attention of 4 heads with 2 of keys, a gated SiLU MLP of 640
channels, trained on the default corpus. DIR/seed0 is a folder as `nas-bo train` writes it. A training that was killed continues.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.pretrained.smollm2 import pages
from nas_bo import provenance, serialization
from nas_bo.architecture import Architecture, Node
from nas_bo.export import folder as files
from nas_bo.model import Corpus, Decoder, Training, load_corpus
from nas_bo.objectives import ValidationLoss
from nas_bo.pretrained import Pretrained

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


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained model to be made smaller, its text, and what a result says about it."""

    name: str
    model: Decoder
    corpus: Corpus
    about: dict[str, Any]


def asked(parser: argparse.ArgumentParser) -> None:
    """Adds the options that say which models are meant."""
    parser.add_argument("--teacher", type=Path, default=cache(), help="a folder with seed0, seed1, ...")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--model", default=None, help="instead: a folder of Hugging Face or a GGUF file")
    parser.add_argument("--name", default="model", help="of that model in the result and in its file's name")
    parser.add_argument(
        "--data", default=None, help="the text for that model; the pages of the documentation by default"
    )


def subjects(given: argparse.Namespace) -> Iterator[Subject]:
    """The teachers of the seeds; or the one model with its tokenizer and text."""
    if given.model is None:
        for seed in given.seeds:
            place = given.teacher / f"seed{seed}"
            yield Subject(place.name, files.load(place).model, load_corpus(), described(place))
        return
    there = Pretrained(given.model)
    with tempfile.TemporaryDirectory() as empty:
        prose = Path(empty) / "pages.txt"
        prose.write_text(pages())
        corpus = load_corpus(given.data or prose, tokenizer=there.tokenizer)
    model = there.model()
    size = sum(weight.numel() for weight in model.parameters())
    text = {"name": corpus.name, "sha256": corpus.fingerprint}
    yield Subject(given.name, model, corpus, {"parameters": size, "file": Path(given.model).name, "text": text})


def result_name(what: str, given: argparse.Namespace) -> str:
    return f"compression_{what}.json" if given.model is None else f"compression_{what}_{given.name}.json"


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
