"""Texts in every wrapping: records, compressed files, other encodings, folders with links; what is not read is said."""

from __future__ import annotations

import bz2
import gzip
import json
import logging
import lzma
import os
from pathlib import Path

import pytest

from nas_bo.errors import DataError
from nas_bo.model import load_corpus
from nas_bo.model.text_files import NotText, as_utf8

DOCS = [{"text": f"document {i} " * 20, "id": i} for i in range(300)]
LINES = "\n".join(json.dumps(one) for one in DOCS)
CARD = b"# A card about the data\n" * 200
PLAIN = "words and more wörds\n" * 3000


def folder(path: Path, **files: bytes | str) -> Path:
    for name, content in files.items():
        place = path / name.replace("__", ".").replace("_IN_", "/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture(scope="module")
def right(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("right") / "docs.jsonl"
    path.write_text(LINES)
    return load_corpus(path).fingerprint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("d.ndjson", LINES.encode()),
        ("d.JSONL", LINES.encode()),
        ("d.jsonl", LINES.replace("\n", "\r\n\n").encode()),
        ("d.json", json.dumps(DOCS).encode()),
        ("d.JSON", json.dumps(DOCS, indent=1).encode()),
        ("d.json", LINES.encode()),
        ("d.json", json.dumps({"version": 2, "data": DOCS}).encode()),
        ("d.jsonl.gz", gzip.compress(LINES.encode())),
        ("d.ndjson.gz", gzip.compress(LINES.encode())),
        ("d.JSONL.GZ", gzip.compress(LINES.encode())),
        ("d.json.gz", gzip.compress(json.dumps(DOCS).encode())),
        ("d.jsonl.bz2", bz2.compress(LINES.encode())),
        ("d.json.xz", lzma.compress(json.dumps(DOCS).encode())),
        ("d.jsonl", b"\xef\xbb\xbf" + LINES.encode()),
        ("d.jsonl", LINES.encode("utf-16")),
    ],
)
@pytest.mark.parametrize("alone", [True, False])
def test_records_are_read_as_records(tmp_path: Path, name: str, content: bytes, alone: bool, right: str) -> None:
    (tmp_path / name).write_bytes(content)
    (tmp_path / "README.md").write_bytes(CARD)
    corpus = load_corpus(tmp_path / name if alone else tmp_path)
    assert corpus.fingerprint == right
    assert ("README.md" in corpus.left_out) != alone


def test_parquet_and_arrow(tmp_path: Path, right: str) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")

    table = pyarrow.table({"id": [one["id"] for one in DOCS], "text": [one["text"] for one in DOCS]})
    pyarrow.parquet.write_table(table, tmp_path / "d.parquet")
    assert load_corpus(tmp_path / "d.parquet").fingerprint == load_corpus(tmp_path).fingerprint == right
    with pytest.raises(DataError, match=r"has a number under 'id'"):
        load_corpus(tmp_path / "d.parquet", text_key="id")
    with pytest.raises(DataError, match=r"no field 'body'.*fields are id, text.*--text-key"):
        load_corpus(tmp_path / "d.parquet", text_key="body")
    with pyarrow.OSFile(str(tmp_path / "d.arrow"), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
        writer.write_table(table)
    assert load_corpus(tmp_path / "d.arrow").fingerprint == right
    (tmp_path / "d.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(DataError, match="cannot be read"):
        load_corpus(tmp_path / "d.parquet")


def test_the_key_can_be_chosen(tmp_path: Path, right: str) -> None:
    for name in ("a.jsonl", "a.json"):
        path = tmp_path / name
        path.write_text(LINES.replace('"text"', '"content"'))
        (tmp_path / "README.md").write_bytes(CARD)
        assert load_corpus(path, text_key="content").fingerprint == right
        assert load_corpus(tmp_path, text_key="content").fingerprint == right
        for where in (path, tmp_path):
            with pytest.raises(DataError, match=r"content, id.*--text-key"):
                load_corpus(where)
        path.unlink()
    (tmp_path / "t.txt").write_text(PLAIN)
    with pytest.raises(DataError, match=r"text_key='content'.*no records"):
        load_corpus(tmp_path / "t.txt", text_key="content")


@pytest.mark.parametrize(
    "line",
    [
        '{"text": null}', '{"text": 5}', '{"text": ["a"]}', '{"body": "a"}', '"a"', '{"text": "half',
        '{"text": "\\ud800"}',
    ],
)  # fmt: skip
def test_records_without_text_are_counted(tmp_path: Path, line: str, right: str) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text("\n".join((LINES, *[line] * 3)))
    corpus = load_corpus(path)
    assert corpus.fingerprint == right
    assert "3 of 303 records without text (0.99%), first line 301" in corpus.left_out
    path.write_text("\n".join((LINES, *[line] * 4)))
    with pytest.raises(DataError, match=r"4 of 304 records.*line 301 of 'd.jsonl'.*at most 1%"):
        load_corpus(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("alone", [True, False])
def test_byte_order_marks(tmp_path: Path, encoding: str, alone: bool) -> None:
    path = tmp_path / "t.txt"
    path.write_text(PLAIN)
    wanted = load_corpus(path).fingerprint
    path.write_bytes(PLAIN.encode(encoding))
    assert load_corpus(path if alone else tmp_path).fingerprint == wanted


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (PLAIN.encode("utf-16-le"), "UTF-16LE without a byte order mark.*iconv"),
        (PLAIN.encode("utf-16-be"), "UTF-16BE without a byte order mark.*iconv"),
        (PLAIN.encode("utf-16")[:-1], "begins as UTF-16"),
        (b"a\0bcd" * 100, "NUL byte at 1"),
        (PLAIN.encode("latin-1"), "not UTF-8"),
    ],
)
def test_what_is_no_text_says_why(content: bytes, why: str) -> None:
    with pytest.raises(NotText, match=why):
        as_utf8(content)


def test_compressed_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text(PLAIN)
    wanted = load_corpus(tmp_path / "t.txt").fingerprint
    (tmp_path / "t.txt").unlink()
    for suffix, module in ((".gz", gzip), (".bz2", bz2), (".xz", lzma)):
        path = tmp_path / f"t.txt{suffix}"
        path.write_bytes(module.compress(PLAIN.encode()))
        assert load_corpus(path).fingerprint == load_corpus(tmp_path).fingerprint == wanted
        for damaged in (path.read_bytes()[:-20], b"nothing of the kind" * 90):
            path.write_bytes(damaged)
            with pytest.raises(DataError, match="cannot be decompressed"):
                load_corpus(path)
        path.unlink()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd" + os.urandom(90_000), "of a form that is not read"),
        ("a.zip", b"PK\3\4" + os.urandom(90_000), "of a form that is not read"),
        ("train.bin", bytes(range(256)) * 400, "tokens, which are read one file at a time"),
        ("a.txt", PLAIN.encode("latin-1"), "not UTF-8"),
        ("a.txt", PLAIN.encode("utf-16-le"), "iconv"),
        ("a.txt.gz", gzip.compress(os.urandom(90_000))[:-50], "cannot be decompressed"),
        ("a.json", json.dumps([{"content": "x" * 9000}] * 20).encode(), "without the field 'text', with content"),
    ],
)
def test_a_readme_is_not_the_corpus_of_data_that_cannot_be_read(
    tmp_path: Path, name: str, content: bytes, why: str
) -> None:
    (tmp_path / "README.md").write_bytes(CARD)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=f"gives 4.8 kB of text, and more.*{why}.*{name}"):
        load_corpus(tmp_path)


def test_what_is_left_out_of_a_folder_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder(
        tmp_path,
        a__txt=PLAIN,
        picture__png=b"\x89PNG\0\0" * 10,
        second__png=b"\x89PNG\0\0" * 10,
        __git_IN_config="x" * 100,
        empty__txt="",
        latin__txt="é".encode("latin-1") * 20,
    )
    (tmp_path / "gone.txt").symlink_to("nowhere.txt")
    with pytest.raises(DataError, match=r"broken link.*gone.txt"):  # as many are missing as there are
        load_corpus(tmp_path)
    (tmp_path / "b.txt").write_text(PLAIN)
    with caplog.at_level(logging.WARNING, "nas_bo"):
        corpus = load_corpus(tmp_path)
    for said in ("hidden: 1 (.git)", "not text: 2 (picture.png, second.png; 120 bytes)", "empty: 1 (empty.txt)",
                 "not UTF-8: 1 (latin.txt; 20 bytes)", "broken link: No such file or directory: 1 (gone.txt)"):  # fmt: skip
        assert said in corpus.left_out, said
    assert [record.getMessage() for record in caplog.records] == [f"corpus {tmp_path.name}: left out {corpus.left_out}"]
    assert corpus.left_out in corpus.describe()


def test_sources_stay_text(tmp_path: Path) -> None:
    """As before: a folder of sources with JSON of settings is all text, the README included."""
    folder(tmp_path, a__py="import this\n" * 2000, package__json='{"name": "x", "tags": [{"a": 1}]}', README__md=CARD)
    corpus = load_corpus(tmp_path)
    text = corpus.train.tobytes() + corpus.validation.tobytes()
    assert b'"tags"' in text and CARD[:20] in text and not corpus.left_out


def test_text_and_records_in_one_folder(tmp_path: Path) -> None:
    folder(
        tmp_path,
        a__jsonl=LINES,
        notes__txt=PLAIN,
        README__txt=CARD,
        LICENSE="mine\n" * 9,
        more_IN_b__ndjson=LINES.replace("document", "other"),
    )
    corpus = load_corpus(tmp_path)
    text = corpus.train.tobytes() + corpus.validation.tobytes()
    assert b"{" not in text and b"document 1 " in text and b"other 1 " in text and "wörds".encode() in text
    assert CARD[:20] not in text
    assert "no records, where others are files of records: 2 (LICENSE, README.txt" in corpus.left_out


def cache(path: Path, revision: str = "abc") -> Path:
    """As a Hugging Face cache has it: files with names that mean nothing, and links to them."""
    for digest, content in (("1f00", LINES), ("2e00", CARD.decode())):
        (path / "blobs").mkdir(parents=True, exist_ok=True)
        (path / "blobs" / digest).write_text(content)
    snapshot = path / "snapshots" / revision
    (snapshot / "data").mkdir(parents=True)
    (snapshot / "data" / "train.jsonl").symlink_to("../../../blobs/1f00")
    (snapshot / "README.md").symlink_to("../../blobs/2e00")
    (path / "refs").mkdir(exist_ok=True)
    (path / "refs" / "main").write_text(revision)
    return snapshot


def test_the_cache_of_hugging_face(tmp_path: Path, right: str) -> None:
    root = tmp_path / "datasets--some--thing"
    snapshot = cache(root)
    for place in (root, snapshot, snapshot / "data", snapshot / "data" / "train.jsonl"):
        assert load_corpus(place).fingerprint == right
    cache(root, "older")
    (root / "refs" / "main").write_text("abc")
    assert load_corpus(root).fingerprint == right
    (root / "refs" / "main").unlink()
    with pytest.raises(DataError, match=r"2 snapshots.*snapshots/abc"):
        load_corpus(root)
    (root / "blobs" / "1f00").unlink()
    with pytest.raises(DataError, match=r"broken link.*data/train.jsonl"):
        load_corpus(snapshot)


def test_links_lead_nowhere_twice(tmp_path: Path) -> None:
    outside = folder(tmp_path / "outside", far__txt="far away\n" * 1000)
    inside = folder(tmp_path / "inside", a__txt=PLAIN, sub_IN_b__txt="below\n" * 1000)
    wanted = load_corpus(inside)
    for name, target in (("loop", inside), ("up", tmp_path), ("root", Path("/")), ("again", inside / "sub"),
                         ("copy.txt", inside / "a.txt"), ("x", inside / "y"), ("y", inside / "x")):  # fmt: skip
        (inside / name).symlink_to(target)
    (inside / "sub" / "home").symlink_to("..")
    corpus = load_corpus(inside)
    assert corpus.fingerprint == wanted.fingerprint
    assert "link to a folder that holds this one: 4 (loop, root, sub/home, ...)" in corpus.left_out
    assert "the same as one that is read: 2 (again, copy.txt" in corpus.left_out
    (inside / "out").symlink_to(outside)
    (outside / "back").symlink_to(inside)
    text = (found := load_corpus(inside)).train.tobytes() + found.validation.tobytes()
    assert 980 < text.count(b"far away") <= 1000 and 980 < text.count(b"below") <= 1000  # blocks cut some


@pytest.mark.parametrize("data", ["", "  ", 5])
def test_data_must_be_a_path(data: object) -> None:
    with pytest.raises(DataError, match=r"--data. is not a path"):
        load_corpus(data)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"--tokenizer. is not a path"):
        load_corpus(tokenizer=data)  # type: ignore[arg-type]


def test_options_without_data_are_refused() -> None:
    for options in ({"text_key": "body"}, {"dtype": "uint16"}, {"vocab_size": 300}):
        with pytest.raises(DataError, match=f"{next(iter(options))} was given without data"):
            load_corpus(**options)  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        load_corpus(tmp_path / "pipe")
    with pytest.raises(DataError, match=r"no text at all; left out: neither a file nor a folder: 1 .pipe"):
        load_corpus(tmp_path)


def test_a_refusal_names_the_fields_that_all_records_have(tmp_path):
    rows = [
        {"id": 1, "content": "abc", "note": ""},
        {"id": 2, "content": "def"},
        {"id": 3, "content": "x", "text": None},
    ] * 5
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(DataError, match=r"Common to all its objects, the fields are id, content\."):
        load_corpus(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text('{"a": "x"}\n{"b": "y"}\n')
    with pytest.raises(DataError, match=r"the fields are none\."):
        load_corpus(tmp_path / "b.jsonl")
