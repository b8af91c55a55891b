"""The command as a user runs it: real processes, real files, exit codes, what goes to stdout and what to stderr."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest

from nas_bo.cli.spaces import large
from nas_bo.search_spaces import LlamaUniform, TinyGPT
from tests.command import TEXT, environment, nas_bo
from tests.processes import Python

SHORT = ["--trials", "4", "--budget", "2000", "--workers", "1", *TEXT]
QUICK = [*SHORT, "--mlflow", "none"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """One short search, tracked in MLflow, in a folder of its own."""
    folder = tmp_path_factory.mktemp("searched")
    done = nas_bo("search", *SHORT, "--seed", "1", cwd=folder)
    return folder, done


def test_a_search_ends_with_table_picture_page_and_where_everything_is(searched):
    folder, done = searched
    assert done.returncode == 0, done.stderr
    assert "bits_per_byte [bits/byte]" in done.stdout and "latency_ms [ms]" in done.stdout
    out = folder / "nas-bo-out" / "TinyGPT-seed1"
    assert (out / "front.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "front.html").read_text()
    assert "bits_per_byte" in page and "http://" not in page.replace("http://www.w3.org", "") and "https://" not in page
    assert str(out.relative_to(folder) / "front.png") in done.stdout and "nas-bo report nas-bo.db" in done.stdout
    assert "nas-bo train nas-bo.db --pick knee" in done.stdout
    assert (folder / "nas-bo.db").exists() and (folder / "mlflow.db").exists() and "mlflow.db" in done.stdout
    lines = done.stderr.splitlines()
    assert lines[0] == "searching TinyGPT with 1 worker, 4 trials"
    assert sum(line.startswith("search ") for line in lines) == 4 and any(line.startswith("retrain ") for line in lines)


def test_every_trial_is_in_mlflow(searched):
    from mlflow.tracking import MlflowClient

    folder, _ = searched
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
    children = [r for r in runs if "mlflow.parentRunId" in r.data.tags]
    again = [r for r in children if r.data.tags["nas.kind"] == "retrain"]
    children = [r for r in children if r.data.tags["nas.kind"] == "trial"]
    assert again and {r.data.tags["nas.of"] for r in again} <= {r.info.run_id for r in children}
    assert len(children) == 4 and {r.info.status for r in children} == {"FINISHED"}
    assert all({"obj/bits_per_byte", "obj/latency_ms"} <= set(r.data.metrics) for r in children)


def test_the_same_command_again_adds_nothing_and_says_the_same(searched):
    folder, done = searched
    again = nas_bo("search", *SHORT, "--seed", "1", cwd=folder)
    assert again.returncode == 0 and again.stdout == done.stdout, again.stderr
    assert "continuing: 4 of 4 trials are there" in again.stderr


def test_report_and_json(searched):
    folder, done = searched
    text = nas_bo("report", "nas-bo.db", cwd=folder)
    assert text.returncode == 0 and text.stdout.split("\n\n")[0].strip() in done.stdout
    data = json.loads(nas_bo("report", "nas-bo.db", "--json", cwd=folder).stdout)
    assert data["trials"] == data["complete"] == 4 and data["front"] and data["front"][0]["retrained"]


@pytest.mark.parametrize(
    "second", [{}, pytest.param({"PYTHONHASHSEED": "1"}, marks=pytest.mark.slow)], ids=["", "hash"]
)
def test_json_is_alone_on_stdout_and_the_same_seed_gives_the_same(second, tmp_path):
    """With other hashes of texts it is a new interpreter, which takes most of its time to import."""
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        args = [*QUICK, "--json", "--retrain", "1", "--objective", "bits_per_byte", "--objective", "parameters"]
        done = nas_bo("search", *args, cwd=tmp_path / name, **(second if found else {}))
        assert done.returncode == 0, done.stderr
        found.append(json.loads(done.stdout))
    assert found[0]["front"] == found[1]["front"]


def test_a_sum_of_objectives(tmp_path):
    args = [*QUICK, "--retrain", "0", "--objective", "bits_per_byte + 0.5*latency_ms + 1e-6*parameters"]
    done = nas_bo("search", *args, cwd=tmp_path)
    assert done.returncode == 0 and "weighted" in done.stdout, done.stderr


def test_a_space_of_large_models_is_announced_before_it_is_trained():
    said = large(LlamaUniform, "cpu")
    assert "LlamaUniform have more than about 104,000,000 parameters" in said and "--max-parameters" in said
    assert large(TinyGPT, "cpu") == "" and large(LlamaUniform, "cuda") == ""


def test_spaces(tmp_path):
    listed = nas_bo("spaces", cwd=tmp_path)
    for name in ("tiny_gpt", "llama", "hybrid", "moe", "hw_gpt_bench_s", "hw_gpt_bench_m", "hw_gpt_bench_l"):
        assert name in listed.stdout
    assert re.search(r"llama_uniform +1.62e\+03 architectures of about 1\d\d,000,000 parameters", listed.stdout)
    assert "depth   a whole number from 1 to 5" in nas_bo("spaces", "tiny_gpt", cwd=tmp_path).stdout
    assert json.loads(nas_bo("spaces", "llama", "--json", cwd=tmp_path).stdout)["title"] == "Llama"


def test_a_space_and_an_objective_of_ones_own_from_a_file(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from nas_bo import Space, choice\n"
        "class Mine(Space):\n    a = choice(1, 2, 3)\n    b = choice(*'xyz')\n"
        "def height(arch): return float(arch.a)\n"
    )
    quick = ["--workers", "2", "--trials", "6", "--mlflow", "none"]
    done = nas_bo("search", "--space", "mine.py:Mine", "--objective", "mine.py:height", *quick, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Mine" in done.stderr and "height" in done.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--space", "tinygpt"], "did you mean 'tiny_gpt'?"),
        (["--space", "no_module:Thing"], "cannot be imported"),
        (["--space", "nas_bo.errors:NasBoError"], "not a class that derives from nas_bo.Space"),
        (["--objective", "bits_per_byt"], "did you mean 'bits_per_byte'?"),
        (["--objective", "bits_per_byte+x*latency_ms"], "cannot read"),
        (["--strategy", "nsga"], "did you mean 'nsga2'?"),
        (["--budget", "0"], "at least 1,000"),
        (["--budget", "10"], "at least 1,000"),
        (["--trials", "0"], "at least 1"),
        (["--workers", "0"], "at least 1"),
        (["--data", "nothing.txt"], "no file or folder 'nothing.txt'"),
        (["--data", "empty.txt"], "empty"),
        (["--data", "short.txt"], "short"),
        (["--data", "binary.txt"], "binary.txt"),
        (["--max-parameters", "100"], "the nearest misses parameters<=100"),
        (["--max-latency-ms", "-1"], "above 0"),
        (["--storage", "/no/such/s.db"], "missing or read-only"),
        (["--out", "/proc/nope"], "cannot be written"),
        (["--objective", "parameters+mflops", "--max-parameters", "100"], "the nearest misses parameters<=100"),
        (["--mlflow", "http://127.0.0.1:9"], "127.0.0.1:9"),
        (["--device", "cuda:99"], "cuda:99"),
    ],
)
def test_wrong_input_is_one_paragraph_before_anything_starts(args, says, tmp_path):
    (tmp_path / "empty.txt").touch()
    (tmp_path / "short.txt").write_text("hello")
    (tmp_path / "binary.txt").write_bytes(bytes(range(256)) * 400)
    done = nas_bo("search", *({"--mlflow": []}.get(args[0], ["--mlflow", "none"])), *args, cwd=tmp_path)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert says in done.stderr and done.stderr.startswith("nas-bo: ") and len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr and not done.stdout


def test_nothing_feasible_is_exit_code_3(tmp_path):
    done = nas_bo("search", *QUICK, "--max-latency-ms", "0.0001", cwd=tmp_path)
    assert done.returncode == 3 and "No trial is feasible; for example, violates latency_ms<=0.0001" in done.stdout, (
        done.stderr
    )


def test_everything_failing_is_exit_code_1(tmp_path):
    (tmp_path / "bad.py").write_text("def broken(arch):\n    raise OSError('disk full')\n")
    done = nas_bo(
        "search", "--objective", "bad.py:broken", "--trials", "9", "--workers", "1", "--mlflow", "none", cwd=tmp_path
    )
    assert done.returncode == 1 and "broken: OSError: disk full" in done.stderr
    short = ["--trials", "3", "--study", "short", "--workers", "1", "--mlflow", "none"]
    assert nas_bo("search", "--objective", "bad.py:broken", *short, cwd=tmp_path).returncode == 1


def test_a_space_with_rules_can_be_reported_again(tmp_path):
    (tmp_path / "ruled.py").write_text(
        "from nas_bo import Space, choice, require\n"
        "class Ruled(Space):\n    a = choice(1, 2, 3)\n    b = choice(*'xyz')\n"
        "    @require\n    def odd(arch): return arch.a != 2\n"
        "def height(arch): return float(arch.a)\n"
    )
    args = [
        "--space", "ruled.py:Ruled", "--objective", "ruled.py:height", "--workers", "1", "--trials", "5", "--mlflow",
        "none",
    ]  # fmt: skip
    first = nas_bo("search", *args, cwd=tmp_path)
    again = nas_bo("report", "nas-bo.db", cwd=tmp_path)
    assert first.returncode == again.returncode == 0 and again.stdout == first.stdout, again.stderr


def test_a_storage_that_is_none_is_said_so(tmp_path):
    (tmp_path / "bad.db").write_text("this is not a database")
    for storage in ("bad.db", "missing.db", "sqlite:///missing.db"):
        done = nas_bo("report", storage, cwd=tmp_path)
        assert done.returncode == 2 and done.stderr.startswith("nas-bo: ") and "Traceback" not in done.stderr
    assert not (tmp_path / "missing.db").exists()


def test_ctrl_c_on_a_terminal_keeps_what_ended(tmp_path):
    """The live display on a real pseudo-terminal; Ctrl-C; exit code 130; the report is there."""
    leader, follower = pty.openpty()
    (tmp_path / "mine.py").write_text(
        "import time\ndef waits(arch):\n    time.sleep(0.2)\n    return float(len(arch.layers))\n"
    )
    args = [
        "search",
        "--trials",
        "500",
        "--objective",
        "mine.py:waits",
        "--objective",
        "parameters",
        "--mlflow",
        "none",
    ]
    process = Python(
        "-m", "nas_bo", *args, "--workers", "2", cwd=tmp_path, stdout=subprocess.PIPE, stderr=follower, text=True,
        env=environment(TERM="xterm"),
    )  # fmt: skip
    os.close(follower)
    os.set_blocking(leader, False)
    shown, deadline = b"", time.time() + 300
    while not re.search(
        r"search ([3-9]|\d\d+)/500", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode(errors="replace"))
    ):
        assert time.time() < deadline and process.poll() is None, shown[-2000:]
        try:
            shown += os.read(leader, 65536)
        except BlockingIOError:
            time.sleep(0.05)
    assert b"front so far" in shown and b"left" in shown
    os.killpg(process.pid, signal.SIGINT)
    end = time.time() + 300
    while process.poll() is None and time.time() < end:
        try:
            os.read(leader, 65536)
        except (BlockingIOError, OSError):
            time.sleep(0.05)
    out = process.stdout.read()
    assert process.returncode == 130, out
    assert "waits" in out and "interrupted" in out
    assert (tmp_path / "nas-bo-out" / "TinyGPT" / "front.html").exists()


def test_validate_prints_the_first_line_first_and_writes_the_report(tmp_path):
    args = ["validate", "--reference-budget", "4000", "--proxy", "bits_per_byte@50%", "--proxy", "kv_cache_bytes"]
    more = ["--architectures", "3", "--seeds", "1", "--workers", "1", "--mlflow", "none", *TEXT]
    done = nas_bo(*args, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "nas-bo-out" / "TinyGPT"
    data = json.loads((out / "trust.json").read_text())
    assert done.stdout.strip().splitlines()[0] == data["first_line"] and "validate 1/6" in done.stderr
    assert [j["name"] for j in data["proxies"]] == ["bits_per_byte@50%", "kv_cache_bytes"]
    assert (out / "trust.png").read_bytes()[:4] == b"\x89PNG" and "nas-bo-out/TinyGPT/trust.html" in done.stdout
    again = nas_bo(*args, *more, "--json", cwd=tmp_path)  # nothing is trained again
    told = json.loads(again.stdout)
    assert told.pop("files") and told.pop("warnings") == [] and told.pop("schema") == "nas-bo.trust/1" and told == data


def test_validate_after_a_search_goes_into_its_page_and_run(searched):
    folder, _ = searched
    args = ["--storage", "nas-bo.db", "--reference-budget", "4000", "--architectures", "4", "--seeds", "1", *TEXT]
    done = nas_bo("validate", *args, "--workers", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    page = (folder / "nas-bo-out" / "TinyGPT-seed1" / "front.html").read_text()
    assert (
        "Validated on its own" in page
        and "bits_per_byte searched" in done.stdout
        and "bits_per_byte@25%" in done.stdout
    )
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    runs = [r for e in client.search_experiments() for r in client.search_runs([e.experiment_id])]
    (parent,) = [r for r in runs if r.data.tags.get("nas.kind") == "study"]
    assert parent.info.status == "FINISHED" and parent.data.metrics["validation/architectures"] == 4
    metrics = parent.data.metrics
    assert {
        f"validation/{p}.recall" for p in ("bits_per_byte searched", "bits_per_byte at 25 percent", "parameters")
    } <= set(metrics)
    files = {f.path for f in client.list_artifacts(parent.info.run_id, "report")}
    assert {"report/validation.png", "report/validation.json", "report/validation.txt"} <= files
    assert parent.data.tags["nas.validation"] in done.stdout
    told = json.loads(nas_bo("report", "nas-bo.db", "--json", cwd=folder).stdout)
    assert told["validation"]["first_line"] == parent.data.tags["nas.validation"]


BAD_VALIDATION = [
    (["--proxy", "bits_per_byt@25%"], "there is no proxy"),
    (["--proxy", "bits_per_byte"], "name its study with --storage"),
    (["--proxy", "bits_per_byte@250%"], "between 0 and 100"),
    (["--storage", "nowhere.db"], "there is no file"),
    (["--study", "x"], "needs --storage"),
    (["--architectures", "1"], "at least 3"),
    (["--reference-budget", "10"], "1,000"),
]


@pytest.mark.parametrize(("args", "says"), BAD_VALIDATION)
def test_bad_options_of_validate_are_one_clear_paragraph(tmp_path, args, says):
    done = nas_bo("validate", *args, cwd=tmp_path)
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
