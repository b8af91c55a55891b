"""The door to lm-evaluation-harness, against the real package and a task of our own; no network."""

from __future__ import annotations

import json
import os
import tempfile
from types import SimpleNamespace

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HOME", tempfile.mkdtemp())
pytest.importorskip("lm_eval")

import torch

from nas_bo.errors import DataError, ModelError, ObjectiveError
from nas_bo.lm_eval import Bytes, DecoderLM, FewShot, JsonTokenizer, few_shot
from nas_bo.model import build, generate
from nas_bo.objectives import LearningRateProbe, ValidationLoss
from nas_bo.search_spaces import TinyGPT
from tests.own_models import Attention, Stacks

ARCH = TinyGPT.sample(1)


@pytest.fixture(scope="module")
def model():
    return build(ARCH, 256, generator=torch.Generator().manual_seed(0))


def asked(*args):
    return SimpleNamespace(args=args)


def plain(model, text, last):
    """Log-probability of the last `last` bytes of the text, one call, no batch."""
    ids = torch.tensor([list(text.encode())])
    logs = model(ids[:, :-1]).log_softmax(-1).gather(-1, ids[:, 1:, None])[0, :, 0]
    return float(logs[-last:].double().sum())


@torch.inference_mode()
def test_likelihoods_are_those_of_the_decoder_whatever_shares_the_batch(model):
    pairs = [("import", " os"), ("def f(x):\n    return", " x + 1"), ("", "abc"), ("a ", "b")]
    lm = DecoderLM(model, batch=3)
    together = lm.loglikelihood([asked(*pair) for pair in pairs])
    assert [v for v, _ in together] == pytest.approx(
        [plain(model, "import os", 3), plain(model, "def f(x):\n    return x + 1", 6), plain(model, "\nabc", 3),
         plain(model, "a b", 2)], abs=1e-4)  # fmt: skip
    for pair, value in zip(pairs, together, strict=True):
        assert lm.loglikelihood([asked(*pair)])[0][0] == pytest.approx(value[0], abs=1e-4)


@torch.inference_mode()
def test_greedy_is_said_of_the_greedy_continuation_only(model):
    lm = DecoderLM(model)
    greedy = generate(model, torch.tensor([list(b"import")]), 1, temperature=0)[0, -1].item()
    (_, yes), (_, no) = lm.loglikelihood([asked("import", chr(b)) for b in (greedy % 128, (greedy + 1) % 128)])
    assert (yes, no) == (greedy < 128, greedy == 127 + 1)


@torch.inference_mode()
def test_rolling_predicts_every_token_once(model):
    text = "import os\nimport sys\n"
    assert DecoderLM(model).loglikelihood_rolling([asked(text)])[0] == pytest.approx(
        plain(model, "\n" + text, len(text)), abs=1e-4
    )
    lm = DecoderLM(model, context=8)
    windows = list(lm._rolling(list(range(1, 31))))
    assert [token for window, count in windows for token in window[-count:]] == list(range(1, 31))
    assert all(len(window) <= 9 for window, _ in windows) and all(c <= 4 for _, c in windows[1:])
    assert list(lm._rolling([])) == []


def test_generation_stops_before_the_stop_text(model):
    greedy = generate(model, torch.tensor([list(b"import os")]), 12, temperature=0)[0, 9:].tolist()
    text = Bytes().decode(greedy)
    lm = DecoderLM(model)
    assert lm.generate_until([asked("import os", {"max_gen_toks": 12})]) == [text]
    stop = text[3:5]
    assert lm.generate_until([asked("import os", {"until": [stop], "max_gen_toks": 12})]) == [text.split(stop)[0]]


def task(folder, choices=(" os", " qzx")):
    rows = "".join(json.dumps({"question": "import", "choices": choices, "answer": 0}) + "\n" for _ in range(6))
    (folder / "rows.jsonl").write_text(rows)
    return {
        "task": "imports", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(folder / "rows.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}",
        "doc_to_choice": "choices", "doc_to_target": "answer", "metric_list": [{"metric": "acc"}],
    }  # fmt: skip


def test_a_task_of_ones_own_is_scored_and_agrees_with_the_likelihoods(model, tmp_path):
    values = DecoderLM(model).loglikelihood([asked("import", " os"), asked("import", " qzx")])
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = few_shot(DecoderLM(model), [task(tmp_path)])
    assert torch.equal(torch.get_rng_state(), before)
    assert found["imports"]["acc"] == float(values[0][0] > values[1][0])


def test_few_shot_trains_and_scores(tmp_path):
    objective = FewShot([task(tmp_path)], quality=ValidationLoss(tokens=10_000))
    value = objective(ARCH)
    assert 0 <= value <= 1 and value.info["tasks"] == {"imports": float(value)} and value.info["bits_per_byte"] > 1
    assert objective.cost == "trained" and objective.direction == "maximize"
    assert objective.conditions()["tasks"] == ["imports"]
    with pytest.raises(ObjectiveError, match=r"'imports' has acc"):
        FewShot([task(tmp_path)], metric="f1", quality=ValidationLoss(tokens=1_000))(ARCH)


DIALS = {
    "fidelity": {"fidelity": 0.5},
    "probe": {"probe": LearningRateProbe((0.3, 3.0), 1_000)},
    "step": {"sequence": 32, "batch_size": 4},
    "text": {"data_share": 0.1},
    "width": {"width_factor": 0.5},
    "own model": {"build": Attention},
}


@pytest.mark.parametrize("dial", DIALS)
def test_what_is_scored_was_trained_as_quality_says(tmp_path, dial):
    quality = ValidationLoss(tokens=4_000, device="cpu", evaluation_tokens=2_048, **DIALS[dial])
    value = FewShot([task(tmp_path)], quality=quality)(ARCH)
    assert value.info["bits_per_byte"] == float(quality(ARCH)) and value.info["fidelity"] == quality.fidelity


@torch.inference_mode()
def test_a_model_without_a_cache_generates_the_same(model):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.embedding = model, model.embedding

        def forward(self, tokens):
            return self.inner(tokens)

    request = [asked("import os", {"max_gen_toks": 6})]
    assert DecoderLM(Plain()).generate_until(request) == DecoderLM(model).generate_until(request)


def test_an_architecture_that_cannot_be_built_is_refused_before_training(tmp_path):
    with pytest.raises(ModelError):
        FewShot([task(tmp_path)]).check_architecture(Stacks.sample(0))


def test_refusals(model, tmp_path):
    with pytest.raises(ObjectiveError, match="knows no task"):
        few_shot(DecoderLM(model), ["no_such_task"], folder=str(tmp_path))
    with pytest.raises(ObjectiveError, match="at least one task"):
        FewShot([])
    with pytest.raises(ObjectiveError, match="context is at least 2"):
        DecoderLM(model, context=1)
    with pytest.raises(DataError, match="no tokenizer file"):
        JsonTokenizer("/no/such.json")
