"""The whole way: a trained model, a search inside it from the command line, a part trained on, exported, and read again."""

import json

import pytest
import torch

from nas_bo.export import folder
from nas_bo.export.fits import fits
from nas_bo.export.homes import TRANSFORMERS
from nas_bo.export.huggingface import converted
from nas_bo.export.text import tokenizer_json
from nas_bo.model.blocks.skip import SKIP
from nas_bo.model.counts import parameters
from nas_bo.model.spec import LayerSpec, check
from nas_bo.pretrained import CalibrationText, Pretrained
from nas_bo.pretrained.block_scores import changed
from nas_bo.pretrained.slices import compact, sliced
from nas_bo.pretrained.space import whole
from tests.command import nas_bo
from tests.pretrained.models import saved, trained

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    path = tmp_path_factory.mktemp("work")
    (path / "t.txt").write_text("".join(f"def f{i}(x):\n    return x + {i * 7 % 13}\n" for i in range(3000)))
    trained(path / "whole", str(path / "t.txt"))
    return path


def test_a_part_of_a_trained_model_leaves_as_a_folder_of_transformers(work):
    import transformers

    asked = "search --from whole --data t.txt --objective bits_per_byte --objective parameters --trials 6 --workers 1 --mlflow none --json"
    found = nas_bo(*asked.split(), cwd=work)
    assert found.returncode == 0, found.stderr
    said = json.loads(found.stdout)
    labels = {one["label"] for one in said["baselines"]}
    assert {"whole (whole)", "uniform width 67%", "uniform depth 50%"} <= labels
    done = nas_bo(
        "train",
        "nas-bo.db",
        "--pick",
        "bits_per_byte where parameters<=18000",
        "--to",
        "part",
        "--tokens",
        "4000",
        cwd=work,
    )
    assert done.returncode == 0, done.stderr
    about = folder.about(work / "part")
    assert about["part_of"]["name"] == "whole" and about["parameters"] <= 18_000
    out = nas_bo("export", "part", "--format", "huggingface", "--to", "hf", "--padding", "9", cwd=work)
    assert out.returncode == 0, out.stderr
    ours = folder.load(work / "part").model
    theirs = transformers.AutoModelForCausalLM.from_pretrained(work / "hf", dtype="float32")
    again = Pretrained(str(work / "hf")).model()
    tokens = torch.randint(256, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = ours(tokens)
        for logits in (theirs(tokens).logits, again(tokens)):
            assert float((logits - expected).abs().max()) <= 1e-3 * float(expected.std())


def test_the_report_compares_with_the_trained_model_also_beyond_the_limits(work):
    """Its loss and size, what the winners keep of it, and how far the estimates of the search can be trusted."""
    asked = (
        "search --from whole --data t.txt --objective bits_per_byte --objective parameters --trials 9 --max-parameters 18000 "
        "--target pi5 --objective decode_ms"
    )
    done = nas_bo(
        *asked.split(), *["--storage", "story.db", "--workers", "1", "--mlflow", "none", "--seed", "1"], cwd=work
    )
    assert done.returncode == 0, done.stderr
    said = nas_bo("report", "story.db", cwd=work).stdout
    size = parameters(Pretrained(str(work / "whole")).spec, 256)
    assert "Baseline whole (whole): bits_per_byte" in said and f"parameters {size:,}" in said
    assert "Of the trained model, the least loss" in said and "% of its parameters" in said
    assert "% of its decode_ms@pi5.roofline" in said and "no baseline has all values" not in said
    assert "block_scores" in said and "nothing was trained again" in said


def test_layers_that_are_gone_leave_no_trace(work):
    teacher = Pretrained(str(work / "whole"))
    model = teacher.model()
    spec = model.spec._replace(layers=(LayerSpec(SKIP, SKIP), model.spec.layers[1]))
    part = sliced(model, spec)
    small = compact(part)
    assert len(small.layers) == 1
    tokens = torch.randint(256, (1, 40), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(part(tokens), small(tokens))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--space", "llama"], "leave --space out"),
        (["--tokenizer", "x.json"], "leave --tokenizer"),
    ],
)
def test_options_that_mean_nothing_there_are_refused(work, options, said):
    done = nas_bo("search", "--from", "whole", "--data", "t.txt", "--storage", "x.db", *options, cwd=work)
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr
    done = nas_bo("search", "--from", "nowhere", cwd=work)
    assert done.returncode != 0 and "no folder" in done.stderr


def test_a_gguf_file_teaches_its_parts_too(work):
    pytest.importorskip("gguf")
    done = nas_bo("export", "whole", "--format", "gguf", "--to", "gg", cwd=work)
    assert done.returncode == 0, done.stderr
    (work / "gg" / "tokenizer.json").write_text(tokenizer_json(None))
    teacher = Pretrained(str(next((work / "gg").glob("*.gguf"))))
    few = CalibrationText(batches=1, sequences=32, sequence=32)
    asked = {"data": str(work / "t.txt"), "calibration": few, "sequence": 32, "held_out_tokens": 512, "device": "cpu"}
    arch = teacher.space().sample(3)
    assert teacher.loss(tokens=4000, **asked)(arch) < teacher.loss(**asked)(arch)


@pytest.mark.parametrize("family", ["Llama", "Olmo2", "Olmoe"])
def test_parts_with_fewer_heads_leave_exactly_or_with_a_reason(family, tmp_path):
    """Some classes have no head_dim of their own: there heads times their dimension is the width."""
    more = {"num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": False} if family == "Olmoe" else {}
    teacher = Pretrained(str(saved(tmp_path / "whole", family, spread=0.3, **more)))
    space = teacher.space(depth=False, mlp=False, experts=False, heads=(1,))
    fewer = {path: 2 for path in whole(space).flat if path.endswith(".heads")}
    spec = check(changed(space, whole(space), fewer))
    assert all(layer.mixer.heads == 2 for layer in spec.layers)
    part = sliced(teacher.model(), spec, copy=True)
    found = {fit.home.name: fit for fit in fits(spec, TRANSFORMERS, part.vocab_size)}[family]
    if family == "Olmoe":
        assert "norms over all heads" in " ".join(found.reasons)
        return
    stock = converted(part, family, found.spec)
    with torch.no_grad():
        expected = part(TOKENS)
        assert float((stock(TOKENS).logits - expected).abs().max()) <= 1e-4 * float(expected.std())


TOKENS = torch.randint(256, (1, 24), generator=torch.Generator().manual_seed(0))
