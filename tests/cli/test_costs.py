"""The options of `nas-bo search` that speak of costs: units, limits, targets, and what is refused, before anything starts."""

from __future__ import annotations

import json

import pytest

from nas_bo.cli import units
from nas_bo.cli.options import Text
from nas_bo.cli.quantities import Costs
from nas_bo.cli.resolve import Asked, Job, job
from nas_bo.errors import NasBoError, ObjectiveError
from nas_bo.objectives import ActiveParameters, Latency
from nas_bo.search_spaces import MoE, TinyGPT
from tests.command import nas_bo

QUICK = ["--trials", "4", "--mlflow", "none", "--workers", "1", "--strategy", "random", "--retrain", "0"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("2GB", units.BYTES, 2e9), ("1.5 GiB", units.BYTES, 1.5 * 2**30), ("2gb", units.BYTES, 2e9), ("512 MiB", units.BYTES, 2**29),
        ("1e9", units.BYTES, 1e9), ("7B", units.BYTES, 7), ("30M", units.SIZES, 30e6), ("7B", units.SIZES, 7e9),
        ("5e6", units.SIZES, 5e6), ("150_000", units.SIZES, 150e3), ("1,250", units.SIZES, 1250), (".5M", units.SIZES, 5e5),
        ("25", units.MILLISECONDS, 25), ("250us", units.MILLISECONDS, 0.25), ("2 s", units.MILLISECONDS, 2000),
        ("3J", units.MILLIJOULES, 3000), ("2k", units.RATE, 2000), ("80 tokens/s", units.RATE, 80),
    ],
)  # fmt: skip
def test_numbers_with_units(text, kind, value):
    assert units.amount("--x", text, kind) == pytest.approx(value)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("2Gb", units.BYTES, "did you mean 'GB'"), ("2 GiBs", units.BYTES, "did you mean 'GiB'"), ("many", units.SIZES, "not a number"),
        ("-3", units.SIZES, "above 0"), ("0", units.BYTES, "above 0"), ("nan", units.BYTES, "above 0"), ("inf", units.SIZES, "above 0"),
        ("3 MJ", units.MILLIJOULES, "did you mean 'mJ'"), ("2 min", units.MILLISECONDS, "no unit 'min'"), ("", units.SIZES, "not a number"),
        ("1e400", units.SIZES, "finite"), ("2 3", units.SIZES, "not a number"),
    ],
)  # fmt: skip
def test_numbers_that_are_none(text, kind, says):
    with pytest.raises(ObjectiveError, match=says) as error:
        units.amount("--x", text, kind)
    assert "--x" in str(error.value)


def made(*objectives: str, device: str | None = None, targets: tuple[str, ...] = (), **more: object) -> Job:
    names = ("dtype", "context", "batch", "parameters_near")
    settings = {name: more.pop(name) for name in names if name in more}
    limits = {name: [value] if isinstance(value, str) else value for name, value in more.items()}
    costs = Costs(device, targets, limits=limits, **settings)  # type: ignore[arg-type]
    return job(Asked("tiny_gpt", Text(), objectives, strategy="random", budget=2000, seed=0, costs=costs))


def test_every_quantity_is_an_objective_here_and_on_a_target():
    names = [o.name for o in made("memory", "throughput", "active_parameters", "energy", targets=("v100",)).objectives]
    assert names == [
        "peak_bytes@v100", "tokens_per_s@v100.roofline", "active_parameters", "modelled_energy_mj@v100",
    ]  # fmt: skip
    here = made("memory", "throughput", "latency_ms", "decode_ms", device="cpu").objectives
    assert [o.name for o in here] == ["peak_bytes", "tokens_per_s", "latency_ms", "decode_ms"]
    assert here[2] == Latency(vocab_size=256, device="cpu")


def test_objectives_of_compressibility_have_words_of_the_same_training():
    words = (
        "quantization_gap_4",
        "quantization_gap_3",
        "quantization_gap_2",
        "layer_sensitivity",
        "activation_sparsity",
        "outlier_score",
    )
    loss, *ours = made("bits_per_byte", *words).objectives
    assert [one.name for one in ours] == list(words) and all(one.quality is loss for one in ours)
    assert [one.bits for one in ours[:3]] == [4, 3, 2]


def test_a_target_limits_memory_to_its_own():
    (memory,) = made("memory", targets=("pi5",)).objectives
    assert memory.name == "peak_bytes@pi5" and memory.at_most == 8e9
    (memory,) = made("memory", targets=("pi5", "t4"), max_memory="2GB").objectives
    assert memory.name == "peak_bytes" and memory.at_most == 2e9
    (memory,) = made("memory", targets=("pi5", "t4")).objectives
    assert memory.at_most == 8e9


def test_several_targets_are_columns_of_one_training():
    found = made("bits_per_byte", "latency_ms", targets=("pi5", "h100"), max_latency_ms=["25", "h100=0.5"])
    assert [o.name for o in found.objectives] == [
        "bits_per_byte",
        "latency_ms@pi5.roofline",
        "latency_ms@h100.roofline",
    ]
    assert [o.at_most for o in found.objectives[1:]] == [25, 0.5] and not found.limits
    default = made(targets=("pi5", "here"))
    assert [o.name for o in default.objectives] == ["bits_per_byte", "latency_ms@pi5.roofline", "latency_ms"]
    one = made("bits_per_byte + 0.1*latency_ms@h100", targets=("pi5", "h100"), max_latency_ms="pi5=25").limits
    assert [(o.name, o.at_most) for o in one] == [("latency_ms@pi5.roofline", 25)]


def test_limits_on_what_is_no_objective():
    found = made(
        "bits_per_byte", max_parameters="150k", max_active_parameters="0.1M", max_memory="1 GiB", min_throughput="2",
        max_decode_ms="5", device="cpu",
    ).limits  # fmt: skip
    bounds = {o.name: (o.at_most, o.at_least) for o in found}
    assert bounds == {
        "parameters": (150e3, None), "active_parameters": (1e5, None), "peak_bytes": (2.0**30, None), "decode_ms": (5, None),
        "tokens_per_s": (None, 2),
    }  # fmt: skip


def test_a_size_to_aim_at():
    (limit,) = made("bits_per_byte", parameters_near="100k").limits
    assert (limit.name, limit.at_least, limit.at_most) == ("parameters", pytest.approx(8e4), pytest.approx(1.2e5))
    (limit,) = made("bits_per_byte", parameters_near="100k", max_parameters="110k").limits
    assert limit.at_most == 110e3
    objectives = made("bits_per_byte", "parameters", parameters_near="100k")
    assert objectives.objectives[1].at_least == pytest.approx(8e4) and not objectives.limits


def test_settings_of_what_is_measured_and_predicted():
    found = made(
        "latency_ms",
        "throughput",
        "memory",
        "kv_cache_bytes",
        targets=("h100",),
        dtype="bfloat16",
        context=512,
        batch=4,
    )
    assert [o.context for o in found.objectives] == [512] * 4
    assert [o.dtype for o in found.objectives[:3]] == ["bfloat16"] * 3 and found.objectives[3].bytes_per_value == 2
    assert [o.batch for o in found.objectives[:3]] == [4] * 3
    plain = made("latency_ms", "throughput", "memory", targets=("h100",)).objectives
    assert [(o.context, o.batch) for o in plain] == [(128, 1), (128, 8), (2048, 1)]


def test_device_still_names_a_target_and_says_what_the_option_is(caplog):
    found = made("bits_per_byte", "latency_ms", device="pi5")
    assert [o.name for o in found.objectives] == ["bits_per_byte", "latency_ms@pi5.roofline"]
    assert found.objectives[0].device is None
    assert any("--target pi5" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"targets": ("pi55",)}, "did you mean 'pi5'"),
        ({"targets": ("pi5", "pi5")}, "named twice"),
        ({"targets": ("cuda",)}, "--device cuda"),
        ({"device": "h100", "targets": ("pi5",)}, "--target h100"),
        ({"device": "h1000"}, "did you mean"),
        ({"dtype": "bflot16"}, "did you mean 'bfloat16'"),
        ({"max_latency_ms": "pi4=3", "targets": ("pi5",)}, "did you mean 'pi5'"),
        ({"max_latency_ms": "pi5=3"}, "no --target is given"),
        ({"max_latency_ms": ["3", "4"]}, "given twice"),
        ({"max_parameters": "pi5=3M", "targets": ("pi5",)}, "the same on every target"),
        ({"max_memory": "2 GBB"}, "did you mean 'GB'"),
        ({"context": 0}, "context"),
    ],
)
def test_what_is_refused(more, says):
    with pytest.raises(NasBoError, match=says):
        made("bits_per_byte", "latency_ms", **more)


def test_words_that_are_refused():
    with pytest.raises(ObjectiveError, match="did you mean 'throughput'"):
        made("troughput")
    with pytest.raises(ObjectiveError, match="latency_ms@pi5"):
        made("bits_per_byte+latency_ms", targets=("pi5", "h100"))
    with pytest.raises(NasBoError, match="nothing is predicted for --target pi5"):
        made("bits_per_byte", targets=("pi5",))


def test_active_parameters_leave_idle_experts_out():
    count = ActiveParameters()
    from nas_bo.objectives import Parameters

    archs = [MoE.sample(seed) for seed in range(30)]
    assert all(count(arch) <= Parameters()(arch) for arch in archs) and any(count(a) < Parameters()(a) for a in archs)
    dense = TinyGPT.sample(0)
    assert count(dense) == Parameters()(dense)


def test_two_targets_in_one_search(tmp_path):
    args = ["--objective", "parameters", "--objective", "latency_ms", "--target", "pi5", "--target", "h100"]
    done = nas_bo("search", *QUICK, *args, "--max-memory", "2GB", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [(o["name"], o["unit"]) for o in told["objectives"]] == [
        ("parameters", ""), ("latency_ms@pi5.roofline", "roofline bound"), ("latency_ms@h100.roofline", "ms"),
    ]  # fmt: skip
    (warning,) = told["warnings"]
    assert "'pi5'" in warning and "is a roofline bound" in warning and done.stderr.count("nas-bo: warning:") == 1


@pytest.mark.parametrize(
    "args",
    [
        ["search", "--data", ""], ["search", "--data="], ["search", "--objective", " "], ["search", "--storage", ""],
        ["search", "--out", ""], ["report", ""], ["validate", "--study", ""], ["ask", "--space", ""], ["mlflow", "sync", ""],
        ["profile", "--out="],
    ],
)  # fmt: skip
def test_an_empty_value_is_an_error(args, tmp_path):
    done = nas_bo(*args, cwd=tmp_path)
    assert done.returncode == 2 and "is empty" in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    assert not done.stdout and not list(tmp_path.iterdir())


@pytest.mark.parametrize("columns", ["80", "120"])
def test_help_is_in_groups_and_whole_sentences(columns, tmp_path):
    done = nas_bo("search", "--help", cwd=tmp_path, COLUMNS=columns)
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= int(columns)
    heads = [line for line in done.stdout.splitlines() if line and not line.startswith(" ") and line.endswith(":")]
    assert heads == [
        "What is searched, and how:", "Training:", "What costs are measured or predicted for:", "Limits, kept before anything is trained:",
        "Where it is kept and shown:", "Options:",
    ]  # fmt: skip
    assert done.stdout.rstrip().endswith("--help  Show this message and exit.")  # no option is without a group
    listed = nas_bo("--help", cwd=tmp_path, COLUMNS=columns)
    assert (
        "..." not in listed.stdout.split("\n", 1)[1]
        and "Search and look:" in listed.stdout
        and "\nCommands:" not in listed.stdout
    )
    assert max(map(len, listed.stdout.splitlines())) <= int(columns)
