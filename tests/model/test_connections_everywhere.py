"""Decoders with connected layers on their whole way: hosts, latency models, predictors, searches by gradients, stacked training,
exports and drawings."""

from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import numpy as np
import pytest

import nas_bo
from nas_bo import ax
from nas_bo import optuna as host
from nas_bo.architecture import Architecture
from nas_bo.hardware.latency.learned import Learned
from nas_bo.hardware.latency.lookup import Lookup
from nas_bo.hardware.latency.profile_file import blocks_from, blocks_to
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import Setting
from nas_bo.model import Training, attention, check, connections_fit, conv, counts, dense, train, train_many
from nas_bo.model.data import Corpus
from nas_bo.model.narrow import narrower
from nas_bo.objectives import Latency, Parameters, ValidationLoss
from nas_bo.objectives.predicted_inputs import Inputs
from nas_bo.report.drawing import drawing
from nas_bo.search_spaces import Connections
from nas_bo.space import Space, choice, repeat, require
from nas_bo.strategies import GDAS, Darts, ProxylessNAS

TEXT = np.frombuffer(b"".join(b"abc%d the cat sat on the mat; " % (i % 97) for i in range(2000)), np.uint8)
CORPUS = Corpus("cats", TEXT[:40_000], TEXT[40_000:48_000], 256, 40_000, 8_000)
ARCHS = [Connections.sample(seed) for seed in range(40)]
FLAT = {
    "depth": 6, "width": 32, "tie_layers": 2, "long_skips": True,
    **{f"layers.{i}.mixer": "conv" if i in (2, 3) else "attention" for i in range(6)},
    **{f"layers.{i}.mixer.attention.share_kv": i > 3 for i in (0, 1, 4, 5)},
}  # fmt: skip
ALL = Connections.architecture(FLAT)


def test_hosts_see_them_as_fields() -> None:
    for arch in (*ARCHS, ALL):
        assert Architecture.from_json(arch.to_json()) == arch == Connections.architecture(dict(arch.flat))
        assert host.architecture(Connections, arch.flat) == arch
        assert ax.architecture(Connections, ax.params(Connections, arch)) == arch


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_latency_models_add_up(phase) -> None:
    """A timer whose times are sums over layers and skips is learned by a table, and by a model that begins at a roofline."""
    setting = Setting(phase, 1, 64)

    def timer(models):
        skips = [max(0, (len(m.layers) - 1) // 2) * m.details.long_skips for m in models]
        return [
            0.05 + 1e-6 * counts.flops(m, 256, 64) + 0.01 * len(m.layers) + 0.005 * n
            for m, n in zip(models, skips, strict=True)
        ]

    archs = [*ARCHS, ALL]
    table = Lookup.build(archs, setting, timer)
    times = timer([check(arch) for arch in archs])
    assert table.predict_many(archs)[0] == pytest.approx(times, rel=0.01)
    assert blocks_from(json.loads(json.dumps(blocks_to(table.table)))) == table.table
    learned = Learned(Roofline(), setting, archs[:30], times[:30])
    assert learned.predict_many(archs[30:])[0] == pytest.approx(times[30:], rel=0.05)


def test_predictors_see_costs_and_choices() -> None:
    inputs = Inputs(Connections, ARCHS)
    rows = inputs([ALL, *ARCHS])
    assert np.isfinite(rows).all() and rows.shape == (len(ARCHS) + 1, len(inputs.names))
    assert {"tie_layers", "long_skips"} <= {word for name in inputs.names for word in re.split(r"\W+", name)}
    shares = rows[:, [i for i, name in enumerate(inputs.names) if name.startswith("share of parameters")]]
    assert shares.sum(1) == pytest.approx(1)


def test_narrower_copies_fit_together() -> None:
    for arch in (*ARCHS, ALL):
        assert check(narrower(arch, 0.5)).details == check(arch).details


def test_stacked_runs_are_the_runs_alone() -> None:
    options = {"tokens": 6_000, "evaluation_tokens": 2_000}
    stacked = train_many([ALL, ALL], CORPUS, seeds=[0, 1], together=2, **options)
    for seed, found in enumerate(stacked):
        alone = train(ALL, CORPUS, seed=seed, **options)
        assert found.bits_per_byte == pytest.approx(alone.bits_per_byte, rel=1e-3)


def test_a_checkpoint_goes_on(tmp_path) -> None:
    options = {"tokens": 6_000, "evaluation_tokens": 2_000}
    whole = train(ALL, CORPUS, **options)
    Training(ALL, CORPUS, checkpoint=tmp_path / "run.pt", **options).to(0.5)
    again = train(ALL, CORPUS, checkpoint=tmp_path / "run.pt", **options)
    assert again.resumed > 0 and again.bits_per_byte == whole.bits_per_byte


@pytest.mark.parametrize("kind", [Darts, GDAS, ProxylessNAS])
def test_searches_by_gradients_sample_what_is_connected(kind) -> None:
    found = kind(tokens=2_000, updates=3, lambdas=(0.0,), seed=3).search(Connections, CORPUS, cost=Latency())
    assert found.front and all(map(Connections.contains, found.front)) and all(map(check, found.front))


@pytest.mark.parametrize("kind", [Darts, GDAS])
def test_layers_that_are_always_connected_are_not_mixed_either(kind) -> None:
    class Tied(Space):
        width = 8
        tie_layers = 2
        layers = repeat(2, mixer=conv(kernel=choice(2, 4)), mlp=dense(ratio=1))

        @require
        def fits(arch):
            return connections_fit(arch)

    search = kind(tokens=2_000, updates=3, lambdas=(0.0,), seed=3)
    found = search.search(Tied, CORPUS, cost=Parameters())
    assert found.logits[0] != [0.0] * len(found.logits[0]) and all(map(check, found.front))


@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_onnx_gives_the_same_logits(phase) -> None:
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from nas_bo.hardware.runtimes.exported import function, to_onnx

    made = function(ALL, Setting(phase, 1, 16), "cpu", "onnxruntime")
    session = runtime.InferenceSession(to_onnx(made, "onnxruntime"))
    given = {one.name: value.numpy() for one, value in zip(session.get_inputs(), made.inputs, strict=True)}
    np.testing.assert_allclose(session.run(None, given)[0], made.expected, rtol=1e-4, atol=1e-4)


def test_the_drawing_has_lines_for_what_is_connected() -> None:
    root = ElementTree.fromstring(drawing(ALL))
    svg = "{http://www.w3.org/2000/svg}"
    titles = [one.text for path in root.iter(f"{svg}path") for one in path.iter(f"{svg}title")]
    assert (
        titles.count("K and V of layer 1") == 1 and titles.count("long skip") == 1
    )  # both skips are between the same rows
    told = ["".join(one.itertext()) for one in root.iter(f"{svg}text")]
    assert any("K and V of layer 1" in one for one in told) and any("× 2, tied by 2" in one for one in told)
    plain = drawing(Connections.architecture({**FLAT, "tie_layers": 1, "long_skips": False}))
    assert "long skip" not in plain and "tied by" not in plain


def test_a_search_over_them_resumes(tmp_path) -> None:
    def go(trials):
        return nas_bo.search(
            Connections,
            objectives=[ValidationLoss(tokens=2_000, evaluation_tokens=2_048), Parameters()],
            trials=trials,
            retrain=0,
            baseline=None,
            storage=f"sqlite:///{tmp_path}/study.db",
            track=f"sqlite:///{tmp_path}/mlflow.db",
        )

    go(1)
    found = go(2)
    assert len(found.trials) == 2 and all(check(trial.architecture) for trial in found.trials)


def test_a_space_without_any_that_fits_is_refused_in_one_paragraph() -> None:
    class Never(Space):
        width = 32
        layers = repeat(2, mixer=attention(heads=choice(2, 4), share_kv=True), mlp=dense(ratio=1))

    with pytest.raises(nas_bo.NasBoError, match="share_kv=True and no earlier layer") as error:
        nas_bo.search(Never, objectives=[ValidationLoss(tokens=4_000)], trials=2)
    assert "\n\n" not in str(error.value)
