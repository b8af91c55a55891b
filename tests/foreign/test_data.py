"""Data of somebody else: a few bytes fill no memory, archives are not unpacked, links lead to nothing hidden."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import tracemalloc
import zipfile

import pytest

from nas_bo.errors import DataError
from nas_bo.model import load_corpus, text_files

TEXT = "def f(x):\n    return x\n" * 2_000


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Bounds of a thousandth, so that nothing here is large."""
    monkeypatch.setattr(text_files, "ALWAYS", 2**16)
    monkeypatch.setattr(text_files, "PIECE", 2**14)


@pytest.mark.parametrize("packed", [gzip, bz2, lzma])
@pytest.mark.parametrize("name", ["t.txt", "t.jsonl", "t.json"])
def test_a_bomb_is_refused_before_it_is_whole(packed, name, tmp_path):
    ending = {gzip: "gz", bz2: "bz2", lzma: "xz"}[packed]
    path = tmp_path / f"{name}.{ending}"
    more = {"preset": 0} if packed is lzma else {}  # a small dictionary
    path.write_bytes(packed.compress(b" " * 2**23, **more))
    for place in (path, tmp_path):
        for traced in (False, True):  # what is imported the first time does not count
            if traced:
                tracemalloc.start()
            try:
                with pytest.raises(DataError, match=f"{path.name}.*over 100 times as many.*decompress it yourself"):
                    load_corpus(place)
                assert not traced or tracemalloc.get_traced_memory()[1] < 2**22
            finally:
                tracemalloc.stop()


def test_compressed_text_is_read_as_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "ALWAYS", 2**26)
    (tmp_path / "t.txt").write_text(TEXT)
    (tmp_path / "t.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    assert load_corpus(tmp_path / "t.txt.gz").fingerprint == load_corpus(tmp_path / "t.txt").fingerprint


def test_rows_of_a_parquet_file_that_say_the_same_a_million_times_are_refused(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    texts = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 40_000, "int32"), pyarrow.array(["x" * 20_000]))
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "t.parquet")
    assert (tmp_path / "t.parquet").stat().st_size < 2**14
    before = pyarrow.total_allocated_bytes()
    with pytest.raises(DataError, match="t.parquet.*over 100 times as many"):
        load_corpus(tmp_path / "t.parquet")
    assert pyarrow.total_allocated_bytes() - before < 2**26


def archive(name: str) -> bytes:
    made = io.BytesIO()
    if name.endswith("zip"):
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as inside:
            inside.writestr("../../evil.txt", TEXT)
    else:
        with tarfile.open(fileobj=made, mode="w:gz" if name.endswith("gz") else "w") as inside:
            about = tarfile.TarInfo("../../evil.txt")
            about.size = len(TEXT)
            inside.addfile(about, io.BytesIO(TEXT.encode()))
    return made.getvalue()


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tgz", "a.zst", "a.jsonl.zst", "a.7z"])
def test_archives_are_not_unpacked(name, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(archive(name))
    for place in (tmp_path / "in" / name, tmp_path / "in"):
        with pytest.raises(DataError) as said:
            load_corpus(place)
        assert "\n" not in str(said.value) and "\0" not in str(said.value)
    assert [path.name for path in tmp_path.rglob("*")] == ["in", name]


@pytest.mark.parametrize("target", ["../.ssh/id_rsa", "../.aws", "/proc/self/environ", "/dev/zero", "/sys/kernel"])
def test_links_to_what_is_hidden_or_of_the_system_are_left_out(target, tmp_path):
    for name in (".ssh", ".aws", "data"):
        (tmp_path / name).mkdir()
    for name in (".ssh/id_rsa", ".aws/credentials.txt"):
        (tmp_path / name).write_text("secret " * 1_000)
    (tmp_path / "data" / "a.txt").write_text(TEXT)
    (tmp_path / "data" / "link").symlink_to(target)
    corpus = load_corpus(tmp_path / "data")
    assert corpus.train_bytes + corpus.validation_bytes == len(TEXT)
    assert "link" in corpus.left_out


def test_links_to_other_data_are_followed_as_ever(tmp_path):
    for name in ("data", "more"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.jsonl").write_text(json.dumps({"text": f"{name} {TEXT}"}) + "\n")
    os.symlink(tmp_path / "more", tmp_path / "data" / "link")
    corpus = load_corpus(tmp_path / "data")
    assert corpus.train_bytes + corpus.validation_bytes > 2 * len(TEXT)
