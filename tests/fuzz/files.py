"""Files, lines and command lines of which damaged copies are tried: each kind as one function of a random generator.

A function raises NasBoError or returns: anything else is a fault, as is an input that takes longer than `LONGEST_S` of a processor.
"""

from __future__ import annotations

import io
import json
import os
import random
import warnings
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any

from nas_bo import search
from nas_bo.cli.ask import read as read_lines
from nas_bo.cli.status import described, told
from nas_bo.errors import NasBoError
from nas_bo.export import folder as folders
from nas_bo.export.text import byte_tokenizer
from nas_bo.foreign_recipe import check, rebuild
from nas_bo.model import build, checkpoint
from nas_bo.model.tokenizer import fast_tokenizer
from nas_bo.objectives import Latency, Parameters, ValidationLoss
from nas_bo.optuna import storages
from nas_bo.pretrained.checkpoint import TrainedDecoder
from nas_bo.search_spaces import TinyGPT
from nas_bo.serialization import describe
from nas_bo.strategies import Random
from nas_bo.supernet import file as supernets
from nas_bo.workflows.stored_result import load_result
from tests.fuzz.mutations import damaged, damaged_bytes
from tests.problems import Toy, cost, loss

Target = Callable[[random.Random], object]
LONGEST_S = 10.0
IDENTITY = checkpoint.Identity("a", "c", {}, 10, 0, False)
CONFIG: dict[str, Any] = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 256, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0, "rope_scaling": None, "hidden_act": "silu", "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
}  # fmt: skip
LINES = '{"number": 0, "values": {"bits_per_byte": 2.41}}\n[{"number": 1, "failed": "out of memory"}]\n{"number": 2,\n "values": {}}\n'
COMMANDS = [
    ["report", "none.db", "--study", "a"], ["status", "none.db", "--json"], ["compare", "none.db", "b.db"], ["train", "none.db", "--pick", "knee", "--lr", "ladder"],
    ["export", "none", "--format", "gguf", "--type", "Q8_0"], ["compress", "none", "--bits", "mlp=3,mixer=4", "--sparsity", "2:4"],
    ["generate", "none", "def ", "--tokens", "3"], ["register", "none.db", "--pick", "bits_per_byte where latency_ms<=2"], ["spaces"], ["tell", "--storage", "none.db"],
    ["search", "--space", "none.py:X", "--trials", "0", "--max-parameters", "30M", "--trial-timeout", "10m"], ["mlflow", "sync", "none"],
]  # fmt: skip
WORDS = [
    "",
    " ",
    "-1",
    "1e999",
    "nan",
    "0",
    "--",
    "-",
    "--help",
    "../x",
    "a\0b",
    "\x1b[2J",
    "é" * 300,
    "x=y=z",
    "9" * 400,
    "--nothing",
    "[",
    "'",
]


def targets(folder: Path) -> dict[str, Target]:
    """The kinds; their whole files are made in `folder`, which is the current one meanwhile."""
    arch = min((TinyGPT.sample(i) for i in range(8)), key=lambda a: len(a.layers))
    whole = folders.files(build(arch, 256), arch, {"tokenizer": "bytes"}, ())
    model, place = folder / "model", folder / "file"
    folders.write(model, whole)
    checkpoint.save(folder / "whole.pt", IDENTITY, 3, {"weights": {}})
    saved = (folder / "whole.pt").read_bytes()
    tokenizer = json.loads(byte_tokenizer().to_str())
    trained = folder / "trained"
    folders.write(trained, {"model.safetensors": whole[folders.WEIGHTS], "config.json": json.dumps(CONFIG).encode()})
    recipes = [describe(one) for one in (ValidationLoss(tokens=2_000), Parameters(at_most=1e6), Latency(target="h100"))]

    def part(name: str) -> Target:
        def read(rng: random.Random) -> object:
            content = whole[name]
            if name == folders.WEIGHTS or rng.random() < 0.3:
                content = damaged_bytes(content, rng, head=2_000)
            else:
                content = json.dumps(damaged(json.loads(content), rng)).encode()
            folders.write(model, {**whole, name: content})
            return folders.load(model)

        return read

    def kept(read: Callable[[Path], object]) -> Target:
        def load(rng: random.Random) -> object:
            place.write_bytes(damaged_bytes(saved, rng))
            return read(place)

        return load

    def tokens(rng: random.Random) -> object:
        text = json.dumps(damaged(tokenizer, rng)) if rng.random() < 0.7 else None
        place.write_bytes(damaged_bytes(json.dumps(tokenizer).encode(), rng) if text is None else text.encode())
        return fast_tokenizer(place)

    def configuration(rng: random.Random) -> object:
        text = json.dumps(damaged(CONFIG, rng)).encode()
        (trained / "config.json").write_bytes(text if rng.random() < 0.8 else damaged_bytes(text, rng))
        return TrainedDecoder(str(trained)).spec

    def gguf(rng: random.Random) -> object:
        header = b"GGUF" + (3).to_bytes(4, "little") + (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
        (folder / "model.gguf").write_bytes(damaged_bytes(header + rng.randbytes(rng.randrange(200)), rng, head=24))
        return TrainedDecoder(str(folder / "model.gguf")).spec

    def lines(rng: random.Random) -> object:
        text = damaged_bytes(LINES.encode(), rng).decode("utf-8", "replace")
        return [str(one) for one in read_lines(text.splitlines(keepends=True))]

    def recipe(rng: random.Random) -> object:
        made = damaged(rng.choice(recipes), rng)
        check(made)
        return rebuild(made)

    def study(suffix: str) -> Target:
        path = folder / f"study{suffix}"
        search(Toy, [loss, cost], trials=3, strategy=Random(), retrain=0, storage=str(path))
        content = path.read_bytes()
        letters = [at for at, byte in enumerate(content) if 32 < byte < 127]

        def read(rng: random.Random) -> object:
            for left in folder.glob(f"{path.name}*"):  # what SQLite keeps beside a file
                left.unlink()
            made = bytearray(content)
            for _ in range(
                rng.choice((1, 5, 30))
            ):  # other letters in its texts, of the same length: pages remain what they are
                made[rng.choice(letters)] = rng.randrange(33, 127)
            path.write_bytes(bytes(made) if rng.random() < 0.5 else damaged_bytes(content, rng))
            found = storages.load(str(path), reading=True)
            return load_result(found).to_dict(), told(described(found))

        return read

    return {
        "weights": part(folders.WEIGHTS), "arch.json": part(folders.ARCH), "model.json": part(folders.ABOUT),
        "checkpoint": kept(lambda path: checkpoint.load(path, IDENTITY)), "supernet": kept(lambda path: supernets.read(path, "a supernet")),
        "tokenizer": tokens, "config.json": configuration, "gguf": gguf, "lines": lines, "recipe": recipe, "command": command,
        "database": study(".db"), "journal": study(".log"),
    }  # fmt: skip


def command(rng: random.Random) -> object:
    """A command line of which words are changed, in a folder in which it finds nothing."""
    from nas_bo.cli.app import app

    words = list(rng.choice(COMMANDS))
    for _ in range(rng.choice((1, 1, 2))):
        at, word = rng.randrange(len(words)), rng.choice(WORDS)
        words[at : at + rng.choice((0, 1))] = [word]
    said = io.StringIO()
    with redirect_stdout(said), redirect_stderr(said), suppress(SystemExit):
        app(args=words, prog_name="nas-bo")
    if "Traceback" in said.getvalue():
        raise AssertionError(f"{words}: {said.getvalue()[-500:]}")
    return words


def tried(target: Target, seed: int) -> str:
    """What is wrong with what the target did with this seed; "" where nothing is."""
    began = os.times()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what an older version has written may warn
            target(random.Random(seed))
    except NasBoError as error:
        if not str(error) or "\n" in str(error):
            return f"its message is {str(error)!r:.300}"
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.300}"
    now = os.times()
    seconds = now.user + now.system - began.user - began.system
    return f"it took {seconds:.1f} s of a processor" if seconds > LONGEST_S else ""
