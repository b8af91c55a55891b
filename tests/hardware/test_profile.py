"""Profiles: one is made here with real models, saved, read, asked, edited wrongly, and refused where it does not fit."""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from nas_bo import elsewhere, profile
from nas_bo.errors import NasBoError, ObjectiveError, ProfileError
from nas_bo.hardware.latency.model import LatencyModel
from nas_bo.hardware.latency.profile import SCHEMA, Profile, space_mark
from nas_bo.hardware.latency.profile_design import informative, pool
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.workload import Setting
from nas_bo.objectives import Latency, Parameters
from nas_bo.problem import Problem
from nas_bo.search_spaces import Hybrid, TinyGPT
from nas_bo.space import require
from tests.hardware.clocks import Work

SHORT, DECODE = Setting(context=16), Setting("decode", context=16)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("profile") / "device.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas_bo.hardware.measuring.session.clock_for", lambda *_: Work(noise=0.03))
        found = profile(TinyGPT, path, (SHORT, DECODE), architectures=10, lookup=False, clock="cpu", name="my box")
    return found, path


def test_it_measures_fits_and_judges(made):
    found, path = made
    assert not path.with_name("device.json.part").exists()
    assert found.device.name == "my-box" and found.device.gflops["float32"] > 0 and found.runtime == "eager"
    for at, setting in enumerate(found.settings):
        archs, times = found.measured(setting)
        assert len(set(archs)) == 10 and all(0.01 < t < 1000 for t in times)
        table = {q.model: q for q in found.quality if q.setting == at}
        assert list(table) == ["learned", "roofline", "flops", "parameters"]
        assert table["learned"].mape_percent < table["parameters"].mape_percent
    often = {r.arch.id: r.measurement.repeats for r in found.records}
    assert len(found.about["anchors"]) == 3
    assert {often[anchor] for anchor in found.about["anchors"]} == {max(often.values())}  # they were in every round
    assert "held-out" in str(found) and "my-box" not in found.about
    assert found.about["versions"]["torch"] and found.conditions["threads"] == 1


def test_what_another_machine_measures_is_kept_here(made, tmp_path, monkeypatch):
    """By calls whose arguments and answers are packed, as between machines; interrupted, and continued."""
    from nas_bo.execution import InProcess

    asked: list[str] = []

    def there(place, function, *arguments):
        asked.append(f"{place} {function.__name__}")
        if function.__name__ == "_fetch" and asked.count("pi5 _fetch") == 3:
            raise KeyboardInterrupt
        function, arguments = pickle.loads(pickle.dumps((function, arguments)))
        return pickle.loads(pickle.dumps(function(*arguments)))

    monkeypatch.setattr("nas_bo.hardware.measuring.session.clock_for", lambda *_: Work(noise=0.03))
    monkeypatch.setattr("nas_bo.hardware.measuring.session.KEPT_EVERY", 0.0)
    monkeypatch.setattr("nas_bo.workflows.profile_place.FETCHED_S", 0.0)
    path, part = tmp_path / "device.json", tmp_path / "device.json.part"
    how = {"architectures": 6, "clock": "cpu", "name": "their box", "on": "pi5"}
    monkeypatch.setattr(elsewhere, "_reach", there)
    with pytest.raises(KeyboardInterrupt):
        profile(TinyGPT, path, (SHORT,), executor=InProcess(), **how)
    assert part.exists() and not path.exists()
    found = profile(TinyGPT, path, (SHORT,), executor=InProcess(), **how)
    assert found.device.name == "their-box" and len(found.records) == 6 and not part.exists()
    assert {one.split()[1] for one in asked} == {"_runs", "_device", "_begin", "_fetch", "_versions"}
    assert asked.count("pi5 _device") == 1  # that was kept
    for wrong, said in (
        ({"on": None}, "a profile is of one machine; give on="),
        ({"executor": None}, "give executor=Ray"),
    ):
        with pytest.raises(ProfileError, match=said):
            profile(TinyGPT, path, (SHORT,), **{**how, "executor": InProcess(), **wrong})


def test_the_file_says_it_all_and_comes_back(made):
    found, path = made
    again = Profile.load(path)
    assert again.to_dict() == found.to_dict() and again.fingerprint == found.fingerprint
    for kind in ("learned", "roofline", "measured"):
        model = again.model(DECODE, kind=kind)
        assert isinstance(model, LatencyModel) and model.how == kind and model.measured == 10
        archs, times = again.measured(DECODE)
        assert np.allclose(model.predict_many(archs)[0], times, rtol=0.5)
        value = model.predict(archs[0])
        assert value.info["how"] == kind and value.info["device"] == "my-box" and value.info["low"] < value


def test_a_search_elsewhere_asks_the_file(made):
    found, path = made
    latency = Latency(context=16, target=path)
    assert latency.name == "latency_ms@my-box.learned"
    problem = Problem(TinyGPT, [latency, Parameters()])
    unseen = next(a for a in (TinyGPT.sample(s) for s in range(99)) if a not in found.measured()[0])
    trial = problem.evaluate(unseen)
    assert trial.info[latency.name]["how"] == "learned" and trial.info[latency.name]["runtime"] == "eager"
    sent = pickle.loads(pickle.dumps(latency))
    assert sent(unseen) == latency(unseen) and latency.conditions()["fingerprint"] == found.fingerprint
    with pytest.raises(ProfileError, match="1 of 1 architecture was not measured on 'my-box'"):
        Latency(context=16, target=path, model="measured")(unseen)


def test_times_of_version_1_are_read_and_never_taken_for_those_of_now(made, caplog):
    """There a prefill made the logits of all tokens."""
    found, _ = made
    said = found.to_dict()
    now = Profile.from_dict(json.loads(json.dumps(said)))
    before = {
        **said,
        "profile": 1,
        "settings": [{k: v for k, v in s.items() if k != "logits"} for s in said["settings"]],
    }
    old = Profile.from_dict(json.loads(json.dumps(before)))
    assert [s.logits for s in old.settings] == ["all", "last"] and [s.logits for s in now.settings] == ["last", "last"]
    assert now.fingerprint == found.fingerprint and old.fingerprint != found.fingerprint
    assert Profile.from_dict(old.to_dict()).settings == old.settings
    assert not caplog.text
    latency = Latency(context=16, target=old)
    assert "logits of all tokens in a prefill" in caplog.text and "profile the device again" in caplog.text
    model = old.model(SHORT)
    assert model.setting == replace(SHORT, logits="all") and latency(TinyGPT.sample(0)) == model.predict(
        TinyGPT.sample(0)
    )
    assert latency.conditions() != Latency(context=16, target=found).conditions()
    with pytest.raises(ProfileError, match="logits of all tokens"):
        found.model(replace(SHORT, logits="all"))


def test_what_it_is_not_of_is_refused_with_what_to_do(made):
    found, path = made
    with pytest.raises(ProfileError, match=r"of the space 'TinyGPT'.*asked for is 'Hybrid'.*run `nas-bo profile`"):
        Problem(Hybrid, [Latency(context=16, target=path)])
    with pytest.raises(ProfileError, match=r"runtime 'eager', asked for is 'openvino'.*--runtime openvino"):
        found.check(runtime="openvino")
    with pytest.raises(ProfileError, match=r"data type float32, asked for is bfloat16.*--dtype bfloat16"):
        found.check(dtype="bfloat16")
    with pytest.raises(ProfileError, match=r"has nothing for prefill of 1 x 4096 tokens.*--context 4096"):
        found.model(Setting(context=4096))
    with pytest.raises(ProfileError, match="no table of parts.*--lookup"):
        found.model(SHORT, kind="lookup")
    with pytest.raises(ProfileError, match="kind 'magic'.*one of learned"):
        found.model(SHORT, kind="magic")  # type: ignore[arg-type]
    assert found.check(TinyGPT, "eager", "float32") is found


def test_a_space_with_another_rule_has_the_same_layers():
    class Narrow(TinyGPT):
        @require
        def narrow(arch) -> bool:
            return arch.width < 96

    assert space_mark(Narrow) == space_mark(TinyGPT) != space_mark(Hybrid)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update(profile=SCHEMA + 1), "version 3, and this nas_bo reads 1 and 2"),
        (lambda d: d["measured"][0].update(ms=math.nan), "takes nan ms"),
        (lambda d: d["measured"][0].update(ms=-1), "takes -1 ms"),
        (lambda d: d["measured"][0].update(setting=9), "setting 9, of 2"),
        (lambda d: d["measured"][0].pop("ms"), "cannot be read"),
        (lambda d: d.pop("measured"), "has no 'measured'"),
        (lambda d: d["settings"][0].update(phase="sideways"), "prefill"),
        (lambda d: d["device"].update(gbytes=-3), "gbytes"),
        (lambda d: next(iter(d["architectures"].values()))["tree"].update(width=7), "edited"),
    ],
)
def test_a_file_that_was_spoilt_says_where(made, tmp_path, change, said):
    data = json.loads(made[1].read_text())
    change(data)
    path = tmp_path / "device.json"
    path.write_text(json.dumps(data))
    with pytest.raises(ProfileError, match=said):
        Profile.load(path)


def test_files_that_are_no_profiles(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        Profile.load(tmp_path / "nothing.json")
    (tmp_path / "cut.json").write_text('{"profile": 1, "dev')
    with pytest.raises(ProfileError, match="not JSON"):
        Profile.load(tmp_path / "cut.json")
    with pytest.raises(ProfileError, match="not a profile of a device"):
        Profile.from_dict([1])
    with pytest.raises(NasBoError):
        Latency(target=tmp_path / "cut.json")


def test_asked_for_nonsense(tmp_path):
    with pytest.raises(ProfileError, match="architectures=2.*at least 5"):
        profile(TinyGPT, tmp_path / "d.json", architectures=2)
    with pytest.raises(ProfileError, match="is a folder"):
        profile(TinyGPT, tmp_path)
    with pytest.raises(ProfileError, match="must be a search space"):
        profile("TinyGPT", tmp_path / "d.json")  # type: ignore[arg-type]
    with pytest.raises(ObjectiveError, match="no runtime 'tpu'"):
        profile(TinyGPT, tmp_path / "d.json", runtime_name="tpu")
    assert not list(tmp_path.iterdir())


def test_what_measured_nothing_leaves_nothing_in_the_way(tmp_path):
    for wrong in ({"device": "meta"}, {"settings": (Setting(dtype="int8"),)}):
        with pytest.raises(NasBoError):
            profile(TinyGPT, tmp_path / "d.json", **{"settings": (SHORT,), "architectures": 5, **wrong})
        assert not list(tmp_path.iterdir())


def test_a_part_of_another_profile_is_not_continued(tmp_path):
    part = tmp_path / "d.json.part"
    part.write_text(json.dumps({"key": "asked", "data": {"space": "0" * 16}}) + "\n")
    with pytest.raises(ProfileError, match="keeps an interrupted profile with space=.*delete the file"):
        profile(TinyGPT, tmp_path / "d.json")


def test_times_of_two_clocks_are_not_put_together(tmp_path):
    def stop(progress):
        if progress.phase == "architectures":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(TinyGPT, tmp_path / "d.json", (SHORT,), architectures=5, clock="cpu", on_progress=stop)
    with pytest.raises(ProfileError, match="with clock='cpu', this one has 'wall'"):
        profile(TinyGPT, tmp_path / "d.json", (SHORT,), architectures=5, clock="wall")


def test_a_table_of_parts_comes_back_from_the_file(made):
    from nas_bo.hardware.workload import parts, specified

    found, _ = made
    archs, _ = found.measured()
    table = {part: 0.1 for arch in archs for part in parts(specified(arch, SHORT))}
    again = Profile.from_dict(json.loads(json.dumps(replace(found, tables={0: table}).to_dict())))
    assert again.tables[0] == table
    assert again.model(SHORT, kind="lookup").how == "lookup"


def test_the_design_tells_more_than_chance():
    """Of what is believed before anything is measured, less is left after ten informative architectures than after ten
    random ones."""
    from nas_bo.hardware.latency.profile_design import NOISE, _covariance

    many, base = pool(TinyGPT, 150), Roofline()
    chosen = informative(many, 10, [DECODE], base)
    assert len({a.id for a in chosen}) == 10 and len(pool(TinyGPT, 5)) == 5
    covariance = _covariance(many, DECODE, base)

    def left(rows: list[int]) -> float:
        known = covariance[np.ix_(rows, rows)] + NOISE**2 * np.eye(len(rows))
        return float(np.trace(covariance - covariance[:, rows] @ np.linalg.solve(known, covariance[rows])))

    rng = np.random.default_rng(0)
    chance = [left(list(rng.choice(len(many), 10, replace=False))) for _ in range(20)]
    assert left([many.index(a) for a in chosen]) < min(chance)
