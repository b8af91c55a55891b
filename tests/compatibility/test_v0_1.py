"""What version 0.1 wrote is read by this one: studies, profiles, checkpoints, supernets; ids and numbers are as they were.

Numbers that rest on additions of floats are equal up to rounding.
"""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from nas_bo import search
from nas_bo.architecture import Architecture
from nas_bo.hardware.latency.profile import Profile
from nas_bo.model import evaluate, load_corpus, train
from nas_bo.objectives import Flops, Parameters
from nas_bo.report.drawing import drawing
from nas_bo.strategies import Random
from nas_bo.supernet import Supernet
from tests.compatibility.make import KINDS, architectures, facts, trained
from tests.compatibility.spaces import Small, Smaller, busy, text

DATA = Path(__file__).parent.parent / "data" / "v0_1"
FACTS = json.loads(gzip.decompress((DATA / "facts.json.gz").read_bytes()))


def near(value):
    """Processors with equal instructions round differently as well."""
    return pytest.approx(value, rel=1e-4)


def opened(name: str, folder: Path) -> Path:
    path = folder / name
    path.write_bytes(gzip.decompress((DATA / f"{name}.gz").read_bytes()))
    return path


def as_worded_then(picture: str) -> str:
    """A drawing with the plurals and the thousands of version 0.1, which wrote "1 layers" and "last 1024 tokens"."""
    picture = re.sub(r"\b1 (layer|head)\b", r"1 \1s", picture)
    return re.sub(r"last (\d+),(\d+) tokens", r"last \1\2 tokens", picture)


@pytest.mark.parametrize("name", FACTS["architectures"])
def test_architectures_are_what_they_were(name):
    for drawn, then in zip(architectures()[name], FACTS["architectures"][name], strict=True):
        arch = Architecture.from_json(then["json"])
        assert arch.id == then["id"] == drawn.id and arch.to_json() == then["json"] == drawn.to_json()
        now = json.loads(json.dumps(facts(arch)))
        picture = as_worded_then(drawing(arch))
        now["drawing"] = picture[:60] + str(len(picture))
        # 0.1 counted the logits of a whole prompt; the activations are the fourth of the parts
        assert now["prefill"]["memory"][3] <= then["prefill"]["memory"][3]
        now["prefill"]["memory"][3] = then["prefill"]["memory"][3]
        assert now == {key: value for key, value in then.items() if key not in ("id", "json")}


def test_trainings_lose_as_much(tmp_path):
    for now, then in zip(trained(tmp_path), FACTS["trained"], strict=True):
        assert now["weights"] == near(then["weights"]) and now["label"] == then["label"]
        assert now["loss"] == near(then["loss"])


@pytest.mark.parametrize("name", ["study.db", "study.log"])
def test_studies_go_on(name, tmp_path):
    path = opened(name, tmp_path)
    asked = {"strategy": Random(seed=3), "storage": str(path), "retrain": 0}
    before = search(Small, [Parameters(), Flops(), busy], trials=4, **asked)
    archs = [trial.architecture for trial in before.trials]
    assert len(archs) == 4
    for trial in before.trials:
        values = {"parameters": Parameters(), "mflops": Flops(), "busy": busy}
        assert trial.values == {key: float(one(trial.architecture)) for key, one in values.items()}
    after = search(Small, [Parameters(), Flops(), busy], trials=6, **asked)
    assert [trial.architecture for trial in after.trials][:4] == archs and len(after.trials) == 6


def test_the_profile_says_the_same(tmp_path):
    path = opened("profile.json", tmp_path)
    found = Profile.load(path)
    assert found.fingerprint == FACTS["fingerprint"]
    archs = [Small.sample(seed) for seed in range(4)]
    for one in found.settings:
        for kind in KINDS:
            said = found.model(one, kind=kind).predict_many(archs)[0]
            assert said == pytest.approx(FACTS["predicted"][f"{kind} {one.phase}"], rel=1e-6), kind
    assert Profile.load(found.save(tmp_path / "again.json")).fingerprint == found.fingerprint


def test_the_checkpoint_goes_on(tmp_path):
    path = opened("run.pt", tmp_path)
    corpus = load_corpus(text(tmp_path / "words.txt"))
    run = train(Smaller.sample(2), corpus, 8192, 5, checkpoint=path, evaluation_tokens=4096)
    assert run.resumed == FACTS["resumed"] > 0 and run.bits_per_byte == near(FACTS["continued"])


def test_the_supernet_has_its_weights(tmp_path):
    net = Supernet.load(opened("supernet.pt", tmp_path), Smaller)
    corpus = load_corpus(text(tmp_path / "words.txt"))
    losses = [evaluate(net.extract(Smaller.sample(seed)), corpus, 4096) for seed in range(4)]
    assert losses == near(FACTS["inherited"])


SMALL = """
from nas_bo.model import attention, conv, dense, skip
from nas_bo.space import Space, choice, integer, repeat

class Tiny(Space):
    depth = integer(1, 2)
    width = choice(16, 32)
    layers = repeat(depth, mixer=choice(attention(heads=choice(1, 2)), conv(kernel=4)), mlp=choice(dense(ratio=choice(1, 2)), skip()))
"""  # the module `small` that the Ax experiments were made with


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kept", ["database", "file"])
def test_ax_experiments_go_on(kept, tmp_path, monkeypatch):
    """One of ``client(Tiny, ["val_loss", Parameters()], strategy=Bayes(startup=2))`` with three trials."""
    pytest.importorskip("ax")
    pytest.importorskip("tabulate")
    from ax.api.client import Client

    from nas_bo import ax as nas_ax
    from nas_bo.errors import HostError

    (tmp_path / "small.py").write_text(SMALL)
    monkeypatch.syspath_prepend(tmp_path)
    if kept == "database":
        storage = nas_ax.storage(opened("ax.db", tmp_path))
        client = Client.load_from_database("own01", storage_config=storage)
    else:
        nas_ax.register()
        client = Client.load_from_json_file(str(opened("ax_client.json", tmp_path)))
    before = {index: trial.arm.parameters for index, trial in client._experiment.trials.items()}
    assert len(before) == 3 and {t.status.name for t in client._experiment.trials.values()} == {"COMPLETED"}
    ((index, params),) = client.get_next_trials(1).items()
    assert index == 3 and params not in before.values()
    client.complete_trial(index, raw_data={"val_loss": 2.5, "parameters": 5000.0})  # the name that it was begun with
    ((index, _),) = client.get_next_trials(1).items()
    client.complete_trial(index, raw_data={"bits_per_byte": 2.5, "parameters": 5000.0})
    with pytest.raises(HostError, match="given 'bits_per_byte', and the metric is 'val_loss'"):
        client.get_next_trials(1)
