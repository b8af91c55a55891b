"""Do the architectures of every named space export exactly, or say why not? None may be silently wrong.

    python -m benchmarks.exports.run [--archs 20] [--spaces tiny_gpt llama ...] [--formats huggingface onnx gguf folder] [--seconds S]

Random architectures of each space, every weight, gain and bias drawn at random, go through `nas_bo.workflows.export`. What was handed
over is then loaded once more, by this script and not by the check of the export: on other tokens, on more of them (past every window),
two sequences at once, and through the cache of the program. Spaces of large models keep every field but width and size of heads, which
are divided by eight, so that there is time for all of them; for ONNX, whose files take long to make, models of more than six layers keep
four, among them one of each kind.

Each row is written to benchmarks/results/exports_raw.jsonl at once. A later call does only the rows that are missing, for at most `--seconds`;
`--summary` writes benchmarks/results/exports.json.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy

import argparse
import json
import re
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, envelope, write
from nas_bo.architecture import Architecture, Node
from nas_bo.errors import NasBoError
from nas_bo.export import folder as files
from nas_bo.export.fits import attentions, fits
from nas_bo.export.homes import RUNTIMES
from nas_bo.export.huggingface import without_bars
from nas_bo.model import Decoder, build, check
from nas_bo.search_spaces import NAMED
from nas_bo.workflows.export import PADDING, export

RAW = RESULTS / "exports_raw.jsonl"
FORMATS = ("huggingface", "own class", "gguf", "folder", "onnx")
WIDEST, DIVISOR = 128, 8
DEEPEST, KEPT = 6, 4  # layers, for ONNX
VOCAB = 256
TOKENS, LAST = 150, 25  # of a sequence, and of these one by one
BOUND = 1e-3  # of the spread of the logits, in float32

Logits = np.ndarray


def thin(arch: Architecture) -> tuple[Architecture, int]:
    """The same fields at an eighth of the width where that is large, and what it was divided by."""
    tree = arch.tree
    if tree["width"] <= WIDEST:
        return arch, 1

    def narrow(value: Any) -> Any:
        if isinstance(value, Node):
            fields = {name: narrow(one) for name, one in value.items()}
            return Node({**fields, **({"head_dim": fields["head_dim"] // DIVISOR} if "head_dim" in fields else {})})
        return tuple(map(narrow, value)) if isinstance(value, tuple) else value

    return Architecture(Node({**narrow(tree), "width": tree["width"] // DIVISOR}), {}), DIVISOR


def shallow(arch: Architecture) -> Architecture:
    """Four of its layers where there are more than six, in their order: the first of each kind, then the first others."""
    layers = arch.tree.get("layers", ())
    if len(layers) <= DEEPEST:
        return arch
    firsts: dict[tuple[str, ...], int] = {}
    for at, layer in enumerate(layers):
        firsts.setdefault((layer["mixer"]["kind"], layer["mlp"]["kind"]), at)
    kept = sorted([*firsts.values(), *(at for at in range(len(layers)) if at not in firsts.values())][:KEPT])
    return Architecture(Node({**arch.tree, "layers": tuple(layers[at] for at in kept)}), {})


def randomised(arch: Architecture) -> Decoder:
    """With no gain of 1 and no bias of 0, which would hide that they were left out."""
    torch.manual_seed(0)
    model = build(arch, VOCAB).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            one = "norm" in name or weight.dim() == 1
            weight.add_(torch.randn_like(weight) * (0.2 if one else 0.02))
    return model


def row(space: str, sample: int, format: str, arch: Architecture, source: Path, model: Decoder) -> dict[str, Any]:
    """One export: exact, refused, kept apart by its own check, failed with another exception, or wrong."""
    said: dict[str, Any] = {"space": space, "sample": sample, "format": format, "architecture": arch.id}
    began = time.process_time()
    to = source.with_name("to")
    try:
        stock = "huggingface" if format == "own class" else format
        most = 1e5 if stock in ("huggingface", "gguf") else None
        made = export(source, to, stock, padding=most, remote_code=format == "own class")
    except NasBoError as error:
        apart = to.with_name("to.unverified").exists()
        said |= {"outcome": "kept apart" if apart else "refused", "message": str(error)[:600]}
        runtime = {"huggingface": "transformers", "gguf": "gguf"}.get(format)
        if runtime is not None and not apart:
            said["reasons"] = sorted({plain(one) for one in fits(arch, RUNTIMES[runtime])[0].reasons})
    except Exception as error:
        said |= {"outcome": "failed", "message": f"{type(error).__name__}: {error}"[:600]}
    else:
        try:
            apart_by, scale, same = READERS[format](model, to)
        except Exception as error:  # stock tools have their own
            said |= {"outcome": "wrong", "message": f"{type(error).__name__}: {error}"[:600]}
        else:
            good = apart_by <= BOUND * max(1.0, scale) and same
            said |= {
                "outcome": "exact" if good else "wrong",
                "what": made.what,
                "difference": apart_by / scale,
                "greedy": same,
            }
            if stock in ("huggingface", "gguf") and "class in this folder" not in made.what:
                best = fits(arch, RUNTIMES["transformers" if stock == "huggingface" else "gguf"])[0]
                said |= {"home": best.home.name, "padding": round(best.padding, 4)}
    for path in (to, to.with_name("to.unverified")):
        shutil.rmtree(path, ignore_errors=True)
    return {**said, "cpu_seconds": round(time.process_time() - began, 2)}


def plain(reason: str) -> str:
    """Without layers and values: ``mixer is conv``."""
    return re.sub(r"^layers\.\d+\.", "", reason).split(",")[0].split(" (")[0]


# ---- reading what was handed over -----------------------------------------------------------------------------------


def tokens_of(model: Decoder) -> tuple[Logits, Logits]:
    """(2, T) ids that pass every window, and the (2, T, V) logits of the decoder."""
    windows = [one.window for one in attentions(model.spec) if one.window is not None]
    most = model.spec.details.max_length or 1 << 30
    count = min(most, max(TOKENS, *(window + 2 * LAST for window in windows), 0))
    ids = np.random.default_rng(7).integers(0, VOCAB, (2, count))
    with torch.inference_mode():
        found: Logits = model(torch.from_numpy(ids)).float().numpy()
    return ids, found


def greedy(model: Decoder, ids: Sequence[int], theirs: Sequence[int]) -> bool:
    """Whether each of the tokens that another program wrote after `ids` is the most probable one (up to ties)."""
    row = [*ids, *theirs]
    with torch.inference_mode():
        logits = model(torch.tensor([row]))[0].float()
    return all(float(logits[at - 1].max() - logits[at - 1, row[at]]) <= 2e-3 for at in range(len(ids), len(row)))


def most(*found: tuple[Logits, Logits]) -> float:
    differences = [
        float(np.abs(a - b).max()) if a.shape == b.shape and np.isfinite(a).all() else float("inf") for a, b in found
    ]
    return max(differences)


def of_transformers(model: Decoder, to: Path) -> tuple[float, float, bool]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = any(to.glob("*.py"))
    stock: Any = AutoModelForCausalLM.from_pretrained(to, trust_remote_code=own, dtype="float32").eval()
    tokenizer: Any = AutoTokenizer.from_pretrained(to, trust_remote_code=own)
    text = "def é(x):\n\treturn x"
    ids, expected = tokens_of(model)
    first = ids.shape[1] - LAST
    with torch.inference_mode():
        whole = stock(torch.from_numpy(ids)).logits.float().numpy()
        prompt = torch.from_numpy(ids[:, :20])
        made = stock.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=24)
    same = all(greedy(model, row[:20], row[20:]) for row in made.tolist())
    same = same and made.shape[1] == 44 and tokenizer.decode(tokenizer(text)["input_ids"]) == text
    pairs = [(whole, expected)]
    if getattr(stock.config, "use_cache", True):
        with torch.inference_mode():
            given = stock(torch.from_numpy(ids[:, :first]), use_cache=True)
            parts = [given.logits]
            for at in range(first, ids.shape[1]):
                name = "cache" if "cache" in given else "past_key_values"
                given = stock(torch.from_numpy(ids[:, at : at + 1]), use_cache=True, **{name: given[name]})
                parts.append(given.logits)
        pairs.append((torch.cat(parts, 1).float().numpy(), expected))
    return most(*pairs), float(expected.std()), same


def of_onnx(model: Decoder, to: Path) -> tuple[float, float, bool]:
    import onnxruntime

    ids, expected = tokens_of(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    pairs: list[tuple[Logits, Logits]] = []
    if (to / "model.onnx").is_file():
        whole = onnxruntime.InferenceSession(str(to / "model.onnx"), options)
        pairs.append((whole.run(None, {"tokens": ids})[0], expected))
    if (to / "model_with_cache.onnx").is_file():
        cached = onnxruntime.InferenceSession(str(to / "model_with_cache.onnx"), options)
        inputs = cached.get_inputs()
        sizes = {"batch": 2, "past": 0}
        states = [np.zeros([sizes.get(axis, axis) for axis in one.shape], np.float32) for one in inputs[2:]]
        single = inputs[0].shape[1] == 1
        ends = (
            range(1, ids.shape[1] + 1)
            if single
            else [ids.shape[1] - LAST, *range(ids.shape[1] - LAST + 1, ids.shape[1] + 1)]
        )
        at, parts = 0, []
        for end in ends:
            given = {
                "tokens": ids[:, at:end],
                "position": np.array([at]),
                **dict(zip([one.name for one in inputs[2:]], states, strict=True)),
            }
            logits, *states = cached.run(None, given)
            parts.append(logits)
            at = end
        pairs.append((np.concatenate(parts, 1), expected))
    return most(*pairs), float(expected.std()), bool(pairs)


def of_gguf(model: Decoder, to: Path) -> tuple[float, float, bool]:
    from nas_bo.export.llamacpp import LlamaCpp

    ids, expected = tokens_of(model)
    with LlamaCpp(to / "model.gguf", VOCAB) as run:
        pairs = [(run(row), want) for row, want in zip(ids.tolist(), expected, strict=True)]
        pairs.append((run.one_by_one(ids[0].tolist(), ids.shape[1] - LAST), expected[0]))
        text = "def é(x):\n\treturn x"
        same = run.tokenized(text) == list(text.encode())
    return most(*pairs), float(expected.std()), same


def of_folder(model: Decoder, to: Path) -> tuple[float, float, bool]:
    ids, expected = tokens_of(model)
    with torch.inference_mode():
        found = files.load(to).model(torch.from_numpy(ids)).float().numpy()
    return most((found, expected)), float(expected.std()), True


READERS: dict[str, Callable[[Decoder, Path], tuple[float, float, bool]]] = {
    "huggingface": of_transformers,
    "own class": of_transformers,
    "gguf": of_gguf,
    "folder": of_folder,
    "onnx": of_onnx,
}


# ---- all of them ----------------------------------------------------------------------------------------------------


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RAW.read_text().splitlines()] if RAW.is_file() else []


def collect(spaces: Sequence[str], formats: Sequence[str], archs: int, seconds: float) -> None:
    """What lacks, the first architecture of every space before the second of any."""
    done = {(one["space"], one["sample"], one["format"]): one for one in rows()}
    end = time.monotonic() + seconds
    for sample in range(archs):
        for space in spaces:
            lacking = [one for one in formats if (space, sample, one) not in done]
            if not lacking or time.monotonic() > end:
                continue
            arch, _ = thin(NAMED[space].sample(sample))
            for format in lacking:
                stock = done.get((space, sample, "huggingface"))
                if format == "own class" and stock is not None and stock["outcome"] == "exact":
                    continue  # it is for what no stock class holds
                taken = shallow(arch) if format == "onnx" else arch
                model = randomised(taken)
                with tempfile.TemporaryDirectory() as place, without_bars():
                    source = Path(place) / "model"
                    files.write(source, files.files(model, taken, {"tokenizer": "bytes"}, ()))
                    found = row(space, sample, format, taken, source, model)
                done[space, sample, format] = found
                with RAW.open("a") as file:
                    file.write(json.dumps(found) + "\n")
                print(space, sample, format, found["outcome"], found.get("difference", found.get("message")), found["cpu_seconds"], flush=True)  # fmt: skip


def summary(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Per format and space: how many are exact, and by how much; why the others are refused."""
    formats: dict[str, Any] = {}
    for format in FORMATS:
        of = [one for one in found if one["format"] == format]
        outcomes = Counter(one["outcome"] for one in of)
        exact = [one for one in of if one["outcome"] == "exact"]
        formats[format] = {
            "exports": len(of),
            **{name: outcomes[name] for name in ("exact", "refused", "kept apart", "failed", "wrong")},
            "largest difference, of the spread": max((one["difference"] for one in exact), default=None),
            "median difference, of the spread": float(np.median([one["difference"] for one in exact]))
            if exact
            else None,
            f"more than {PADDING:.0%} of zeros, refused by default": sum(
                one.get("padding", 0) > PADDING for one in exact
            ),
            "homes": dict(Counter(one["home"] for one in exact if "home" in one).most_common()),
            "reasons": dict(Counter(reason for one in of for reason in one.get("reasons", ())).most_common()),
            "spaces": {
                space: dict(Counter(one["outcome"] for one in of if one["space"] == space))
                for space in NAMED
                if any(one["space"] == space for one in of)
            },
        }
    return formats


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", type=int, default=20)
    parser.add_argument("--spaces", nargs="+", choices=[*NAMED], default=[*NAMED])
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=FORMATS)
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no other architecture after so many")
    parser.add_argument("--summary", action="store_true", help="only write the summary of what there is")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.summary:
        collect(given.spaces, given.formats, given.archs, given.seconds)
    found = rows()
    what = "random architectures of every named space, exported and loaded by other programs: largest difference of logits in units of their spread"
    large = [name for name in NAMED if any(check(NAMED[name].sample(i)).width > WIDEST for i in range(3))]
    about = {
        "tokens": f"{TOKENS}, or past the largest window", "bound": BOUND, "padding": "any", "divided": {"spaces": large, "width and size of heads by": DIVISOR},
        "formats": summary(found),
        "wrong": [one for one in found if one["outcome"] in ("wrong", "failed", "kept apart")],
    }  # fmt: skip
    packages = ("torch", "transformers", "onnxruntime", "gguf", "xllamacpp")
    write(envelope(what, *packages, **about), "exports.json")


if __name__ == "__main__":
    main()
