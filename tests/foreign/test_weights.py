"""Weights that somebody else has made: nothing runs, nothing is waited for, and nothing takes more memory than its file is long."""

from __future__ import annotations

import json
import os
import re
import struct
import zipfile

import pytest
import torch

from nas_bo.architecture import Architecture
from nas_bo.errors import CheckpointError, ExportError, NasBoError
from nas_bo.export import folder as folders
from nas_bo.model import build, checkpoint
from nas_bo.search_spaces import TinyGPT
from nas_bo.supernet import file as supernets

IDENTITY = checkpoint.Identity("a", "c", {}, 10, 0, False)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    arch = min((TinyGPT.sample(i) for i in range(8)), key=lambda a: len(a.layers))
    folders.write(folder, folders.files(build(arch, 256), arch, {"tokenizer": "bytes"}, ()))
    assert folders.load(folder).architecture.id == arch.id
    return folder


@pytest.fixture
def model(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for path in made.iterdir():
        (tmp_path / "model" / path.name).write_bytes(path.read_bytes())
    return tmp_path / "model"


def header(data: object, body: bytes = b"") -> bytes:
    text = json.dumps(data).encode()
    return struct.pack("<Q", len(text)) + text + body


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63 - 1),
        struct.pack("<Q", 2**40) + b" " * 100,
        b"",
        header({"a": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 4]}}, b"1234"),
        header({"a": {"dtype": "OBJECT", "shape": [1], "data_offsets": [0, 4]}}, b"1234"),
        header({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, b"1234"),
        header({"embedding.weight": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}),
    ],
)
def test_odd_weights_are_refused(content, model):
    (model / "model.safetensors").write_bytes(content)
    with pytest.raises(ExportError):
        folders.load(model)


@pytest.mark.parametrize(
    "change", [{"vocab_size": 10**12}, {"vocab_size": "x"}, {"vocab_size": 1e400}, {"ignore": 5}, {"format": []}]
)
def test_what_a_folder_says_of_itself_builds_nothing_larger_than_its_weights(change, model):
    said = json.loads((model / "model.json").read_text())
    (model / "model.json").write_text(json.dumps(said | change))
    with pytest.raises(NasBoError):
        folders.load(model)


@pytest.mark.parametrize(
    ("field", "value"), [("width", 10**6), ("ratio", 10**6), ("width", 1e300), ("width", -1), ("ratio", "x")]
)
def test_an_architecture_larger_than_its_weights_is_not_built(field, value, model, monkeypatch):
    def changed(inside):
        if isinstance(inside, dict):
            return {key: value if key == field else changed(one) for key, one in inside.items()}
        return [changed(one) for one in inside] if isinstance(inside, list) else inside

    data = changed(json.loads((model / "arch.json").read_text()))
    with pytest.raises(NasBoError) as said:
        Architecture.from_dict(data)
    data["id"] = re.search(r"its content has id '(\w+)'", str(said.value))[1]  # whoever edits a file can do that, too
    (model / "arch.json").write_text(json.dumps(data))
    with pytest.raises(NasBoError):
        folders.load(model)
    if isinstance(value, int) and value > 0:
        with pytest.raises(NasBoError, match="has .* parameters and model.safetensors only"):
            folders.load(model)


def packed(path) -> None:
    torch.save({"format": 1, "identity": {}, "step": 1, "state": {"x": torch.zeros(8)}}, path)
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, b"\0" * 2**24 if "/data/" in name else content)


KINDS = {
    "evil": lambda path: torch.save({"format": 1, "identity": Evil(), "step": 1, "state": {}}, path),
    "packed": packed,
    "empty": lambda path: path.write_bytes(b""),
    "list": lambda path: torch.save([1, 2], path),
    "text": lambda path: torch.save({"format": 1, "identity": "x", "step": None, "state": [], "banks": 3}, path),
    "step": lambda path: torch.save({"format": 1, "identity": {}, "step": "x", "state": {}}, path),
    "pipe": lambda path: os.mkfifo(path),
    "folder": lambda path: path.mkdir(),
}


@pytest.mark.skipif(os.name != "posix", reason="pipes")
@pytest.mark.parametrize("kind", KINDS)
def test_checkpoints_and_supernets_of_others(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    KINDS[kind](tmp_path / "x.pt")
    with pytest.raises(CheckpointError) as said:
        checkpoint.load("x.pt", IDENTITY)
    with pytest.raises(CheckpointError):
        supernets.read("x.pt", TinyGPT)
    assert not (tmp_path / "ran").exists() and "x.pt" in str(said.value)
