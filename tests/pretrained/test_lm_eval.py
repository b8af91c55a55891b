"""Parts of a trained model, scored by lm-evaluation-harness on a task of our own; no network."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import replace

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("HF_HOME", tempfile.mkdtemp())
pytest.importorskip("lm_eval")

from nas_bo.lm_eval import Bytes, DecoderLM, FewShot, few_shot
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.space import whole


@pytest.fixture
def task(tmp_path):
    row = {"question": "def f1(x):\n    return", "choices": [" x", " qz"], "answer": 0}
    (tmp_path / "rows.jsonl").write_text((json.dumps(row) + "\n") * 4)
    return {
        "task": "returns", "dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(tmp_path / "rows.jsonl")}},
        "test_split": "test", "output_type": "multiple_choice", "doc_to_text": "{{question}}",
        "doc_to_choice": "choices", "doc_to_target": "answer", "metric_list": [{"metric": "acc"}],
    }  # fmt: skip


def test_a_part_is_scored_as_it_is_and_after_it_recovered(small, loss, task):
    space = small.space()
    part = changed(space, whole(space), {"layers.1.mlp": "skip"})
    as_it_is = FewShot([task], quality=loss)(part)
    assert as_it_is.info["tokens"] == 0
    assert float(as_it_is) == few_shot(DecoderLM(loss.sub_model(part), Bytes()), [task])["returns"]["acc"]
    learned = FewShot([task], quality=replace(loss, tokens=2_048))(part)
    assert learned.info["tokens"] == 2_048 and learned.info["bits_per_byte"] > 0
