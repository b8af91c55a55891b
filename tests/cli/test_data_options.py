"""What `nas-bo search` and `validate` are given as data: options, messages before anything starts, and what is kept."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from nas_bo import search
from nas_bo.errors import DataError
from nas_bo.objectives import Parameters, SharedWeightLoss, ValidationLoss
from nas_bo.objectives.zero_cost import Snip
from nas_bo.search_spaces import TinyGPT
from nas_bo.strategies import Darts, Random
from nas_bo.workflows.search import load_result
from tests.command import nas_bo

QUICK = ["--trials", "4", "--budget", "2000", "--mlflow", "none", "--workers", "1"]
RECORDS = "\n".join(json.dumps({"content": f"record {i} of words " * 20, "id": i}) for i in range(300))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "corpus"
    path.mkdir()
    (path / "a.jsonl").write_text(RECORDS)
    (path / "README.md").write_text("# A card\n" * 50)
    return path


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    (np.random.default_rng(0).zipf(1.3, 30_000) % 65).astype("<u4").tofile(tmp_path / "train.bin")
    return tmp_path / "train.bin"


def test_records_with_a_key_of_their_own(folder: Path, tmp_path: Path) -> None:
    done = nas_bo("search", *QUICK, "--retrain", "0", "--data", str(folder), "--text-key", "content", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = next((tmp_path / "nas-bo-out").glob("*/front.html")).read_text()
    assert "left out" in page and "README.md" in page


def test_tokens_have_a_loss_per_token(tokens: Path, tmp_path: Path) -> None:
    done = nas_bo(
        "search", *QUICK, "--retrain", "0", "--data", str(tokens), "--vocab-size", "65", "--token-dtype", "uint32",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "val_loss [bits/token]" in done.stdout and "bits/byte" not in done.stdout


@pytest.mark.parametrize("command", ["search", "validate"])
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data", ""], "--data"),
        (["--data", "corpus"], "--text-key"),
        (["--data", "corpus", "--text-key", "body"], "no field 'body'"),
        (["--data", "corpus", "--vocab-size", "300"], "for .bin and .npy"),
        (["--data", "train.bin", "--token-dtype", "uint16"], "wider"),
        (["--data", "train.bin", "--token-dtype", "float"], "uint8, uint16, uint32 or int64"),
        (["--data", "train.bin", "--vocab-size", "10"], "outside 0 to 9"),
        (["--text-key", "body"], "without data"),
    ],
)
def test_wrong_data_is_one_paragraph(
    command: str, options: list[str], says: str, folder: Path, tokens: Path, tmp_path: Path
) -> None:
    done = nas_bo(command, *options, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr and "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_what_was_left_out_is_kept_with_the_study_and_may_change(folder: Path, tmp_path: Path) -> None:
    loss = ValidationLoss(tokens=2000, data=str(folder), text_key="content")
    storage = f"sqlite:///{tmp_path}/s.db"

    def go(trials: int):
        return search(TinyGPT, [loss, Parameters()], strategy=Random(seed=0), trials=trials, storage=storage, retrain=0)

    first = go(1)
    assert "README.md" in first.facts["bits_per_byte: left out"]
    assert load_result(first.study, TinyGPT).facts["bits_per_byte: left out"] == first.facts["bits_per_byte: left out"]
    (folder / "picture.png").write_bytes(b"\x89PNG\0\0")
    from nas_bo.objectives import text

    text._corpus.cache_clear()
    assert len(go(2).trials) == 2


def test_a_corpus_that_changed_is_refused(folder: Path, tmp_path: Path) -> None:
    loss = ValidationLoss(tokens=2000, data=str(folder), text_key="content")
    storage = f"sqlite:///{tmp_path}/s.db"
    search(TinyGPT, [loss], strategy=Random(seed=0), trials=1, storage=storage, retrain=0)
    (folder / "b.jsonl").write_text(RECORDS.replace("record", "other"))
    from nas_bo.errors import HostError
    from nas_bo.objectives import text

    text._corpus.cache_clear()
    with pytest.raises(HostError, match="sha256"):
        search(TinyGPT, [loss], strategy=Random(seed=0), trials=2, storage=storage, retrain=0)


def test_everything_that_reads_text_takes_the_same_options(folder: Path, tokens: Path) -> None:
    wanted = ValidationLoss(data=str(folder), text_key="content").corpus().fingerprint
    shared = SharedWeightLoss(space=TinyGPT, tokens=2000, data=str(folder), text_key="content")
    assert shared.corpus().fingerprint == wanted
    assert shared.larger(2).corpus().fingerprint == wanted
    assert shared.path() != SharedWeightLoss(space=TinyGPT, tokens=2000, data=str(folder)).path()
    assert Snip(data=str(folder), text_key="content").corpus().fingerprint == wanted
    assert Darts(data=str(folder), text_key="content").text().fingerprint == wanted
    with pytest.raises(DataError, match="--text-key"):
        Darts(data=str(folder)).text()
    assert SharedWeightLoss(space=TinyGPT, tokens=2000, data=str(tokens)).unit == "bits/token"
