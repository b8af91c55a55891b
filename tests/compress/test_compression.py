"""A folder of `nas-bo train` becomes a smaller one of the same kind: by the function, and by the command."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from nas_bo.cli.app import app
from nas_bo.compress import compress, quantize
from nas_bo.compress.compression import CompressionSettings
from nas_bo.errors import CompressError, ExportError, ModelError
from nas_bo.export import folder as files
from nas_bo.workflows.export import continued, export
from tests.command import nas_bo
from tests.compress.models import PLAIN, arch, learned, text
from tests.model.architectures import CONV, SKIP, decoder, layer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return _folder(tmp_path_factory.mktemp("compress") / "trained", learned(), arch(PLAIN))


def _folder(place, model, architecture, **about):
    said = {"values": {"bits_per_byte": 2.0}, "units": {"bits_per_byte": "bits/byte"}, "tokenizer": "bytes",
            "settings": {"lr": 5e-3, "batch_size": 16, "sequence": 32}, "samples": [{"text": "old"}], **about}  # fmt: skip
    files.write(place, files.files(model, architecture, said, ()))
    return place


def test_the_folder_says_what_every_step_costs_and_loads_again(trained, tmp_path):
    made = compress(
        trained, tmp_path / "small", bits=3, prune=0.5, heads=0.5, sparsity="2:4", tokens=8192, corpus=text()
    )
    names = [step.name for step in made.steps]
    assert names[0] == "the trained model" and names[1] == "without 50% of channels, 50% of heads"
    assert (
        names[2] == "trained on 8,192 tokens"
        and names[3] == "zeros: 2:4 by wanda"
        and "bits a weight by gptq" in names[4]
    )
    first, last = made.steps[0], made.steps[-1]
    assert last.parameters < 0.8 * first.parameters and last.nbytes < first.nbytes / 5
    assert all(step.low < step.loss < step.high and step.cost_low <= step.cost <= step.cost_high for step in made.steps)
    assert made.steps[1].cost > 0 > made.steps[2].cost
    there = files.load(made.folder)
    assert there.about["format"] == files.PACKED and there.about["values"]["bits_per_byte"] == last.loss
    assert there.about["parameters"] == last.parameters == sum(w.numel() for w in there.model.parameters())
    assert there.architecture.id == there.about["architecture"] != arch(PLAIN).id
    assert "samples" not in there.about and there.about["compression"]["steps"][0]["name"] == "the trained model"
    size = (made.folder / files.WEIGHTS).stat().st_size
    assert last.nbytes < size < last.nbytes + 4096
    card = (made.folder / files.CARD).read_text()
    assert (
        "How it was made smaller" in card
        and f"{last.nbytes:,}" in card
        and "zeros save no time on a CPU" in card.replace("Zeros", "zeros")
    )
    assert "architecture.svg" not in card
    assert isinstance(continued(made.folder, "\x01\x02", 4, 0.0), str)


def test_the_unpruned_model_can_be_the_teacher(trained, tmp_path):
    how = {"prune": 0.75, "tokens": 8192, "corpus": text()}
    alone, taught = (
        compress(trained, tmp_path / name, teacher=t, **how) for name, t in (("a", None), ("b", str(trained)))
    )
    assert taught.steps[2].name.endswith("as teacher") and taught.steps[2].loss != alone.steps[2].loss
    assert taught.steps[2].cost < 0 and taught.about["compression"]["settings"]["teacher"]["loss"] == "mixed"
    small = compress(trained, tmp_path / "c", bits=8, method="rtn", corpus=text())
    by_integers = compress(trained, tmp_path / "d", teacher=str(small.folder), **how)
    assert abs(by_integers.steps[2].loss - taught.steps[2].loss) < 0.05
    with pytest.raises(CompressError, match="tokens is 0"):
        compress(trained, tmp_path / "x", prune=0.5, teacher=str(trained), corpus=text())
    other = _folder(tmp_path / "bytes", _bytes_model(), arch(PLAIN))
    with pytest.raises(ModelError, match="has a vocabulary of 256 token ids"):
        compress(trained, tmp_path / "x", teacher=str(other), **how)


def test_activations_are_rounded_in_the_model_that_is_read_too(trained, tmp_path):
    made = compress(trained, tmp_path / "a8", bits=8, method="rtn", activations=8, corpus=text())
    plain = compress(trained, tmp_path / "w8", bits=8, method="rtn", corpus=text())
    tokens = torch.arange(20).unsqueeze(0)
    a, b = (files.load(one.folder).model(tokens) for one in (made, plain))
    assert not torch.equal(a, b)
    with pytest.raises(ExportError, match="rounds its activations"):
        export(made.folder, tmp_path / "hf")


def test_the_command(trained, tmp_path):
    text_file = tmp_path / "words.txt"
    text_file.write_bytes(bytes(text().train[:20_000] + 32))
    bytes_model = _folder(tmp_path / "bytes", _bytes_model(), arch(PLAIN))
    done = nas_bo("compress", str(bytes_model), "--to", "small", "--bits", "mlp=3,default=4", "--prune", "0.25", "--tokens", "2000",
                  "--data", str(text_file), "--json", cwd=tmp_path)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [step["name"] for step in said["steps"]][1:3] == ["without 25% of channels", "trained on 1,536 tokens"]
    there = files.load(tmp_path / "small")
    assert there.about["quantization"]["bits"]["layers.0.mlp.up.weight"] == 3
    assert (tmp_path / "small" / files.DRAWING).read_text().startswith("<svg")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--bits", "5"), "can have 2, 3, 4, 8, 16 or 32 bits"),
        (("--bits", "four"), "write a number of bits such as 4"),
        (("--bits", "layers.9=4"), "no matrix there"),
        (("--bits", "mlp=4,mixer=3,mlp=2"), "names mlp twice"),
        (("--bits", "4", "--lr", "0.1"), "the rate at which the model is trained on"),
        ((), "nothing is asked for"),
        (("--bits", "32"), "32 bits leave a weight as it is"),
        (("--bits", "default=32,mlp=32"), "32 bits leave a weight as it is"),
        (("--prune", "0.5", "--group", "16"), "--group 16: that many columns share a scale"),
        (
            ("--bits", "16", "--method", "rtn"),
            "that is how weights are rounded, and no weight is asked to have 8 bits or fewer",
        ),
        (("--layers", "0.5", "--symmetric"), "that is how weights are rounded, and no weight"),
        (("--activations", "8"), "what matrices of 8 bits or fewer are given is rounded, and no weight"),
        (
            ("--bits", "4", "--score", "taylor"),
            "that is how units are scored before some of them are removed, and nothing is to be removed",
        ),
        (("--bits", "4", "--seed", "3"), "of the order of the text when the model is trained on, and tokens is 0"),
        (("--prune", "1.5"), "below 1"),
        (("--sparsity", "half"), "write a share"),
        (("--bits", "4", "--tokens", "5"), "at least 1,000"),
        (("--bits", "4"), "does not say which text"),
        (("--bits", "4", "--to", "."), "exists; give a folder that does not"),
    ],
)
def test_the_command_refuses_in_one_paragraph(options, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = _folder(tmp_path / "bytes", _bytes_model(), arch(PLAIN))
    done = CliRunner().invoke(app, ["compress", str(place), "--to", "other", *options])
    assert done.exit_code == 2 and said in done.output.replace("\n", " "), done.output
    assert len(done.output.strip().splitlines()) == 1 and not (tmp_path / "other").exists()


def test_activations_without_few_bits_are_refused_by_the_function_too():
    with pytest.raises(CompressError, match="bits=16 gives no matrix so few"):
        quantize(learned(), 16, activations=8)
    with pytest.raises(CompressError, match="sparsity is not given"):
        CompressionSettings(bits=4, sparse_method="weight")


def _bytes_model():
    from tests.compress.models import made

    return made(PLAIN, vocab_size=256)


def test_the_text_is_that_of_the_training(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)  # elsewhere a folder may not name it
    from nas_bo import serialization
    from nas_bo.objectives import ValidationLoss

    source = tmp_path / "text.txt"
    source.write_bytes(bytes(text().train[:20_000] + 32))
    loss = ValidationLoss(tokens=2000, data=str(source))
    about = {"objective": serialization.describe(loss), "corpus": {"sha256": loss.corpus().fingerprint}}
    place = _folder(tmp_path / "m", _bytes_model(), arch(PLAIN), **about)
    assert compress(place, tmp_path / "a", bits=8, method="rtn").steps[-1].nbytes < 30_000
    changed = _folder(tmp_path / "n", _bytes_model(), arch(PLAIN), **{**about, "corpus": {"sha256": "0" * 64}})
    with pytest.raises(CompressError, match="has changed: its tokens had the sha256 000000000000"):
        compress(changed, tmp_path / "b", bits=8)


def test_what_cannot_be_compressed_is_refused_before_anything_is_computed(trained, tmp_path):
    with pytest.raises(ExportError, match="there is no folder"):
        compress(tmp_path / "nowhere", tmp_path / "x", bits=4)
    conv = _folder(tmp_path / "conv", _conv(), arch(decoder(layer(CONV, SKIP))))
    with pytest.raises(CompressError, match="no MLP whose channels or experts could go, its kinds are 'skip'"):
        compress(conv, tmp_path / "x", prune=0.5, corpus=text())
    small = compress(trained, tmp_path / "small", bits=4, method="rtn", corpus=text())
    with pytest.raises(ExportError, match="is quantized already"):
        compress(small.folder, tmp_path / "x", bits=4, corpus=text())
    with pytest.raises(TypeError, match="did you mean 'prune'"):
        compress(trained, tmp_path / "x", prunes=0.5, corpus=text())
    said = json.loads((small.folder / files.ABOUT).read_text())
    said["quantization"]["bits"]["layers.0.mlp.up.weight"] = 3
    (small.folder / files.ABOUT).write_text(json.dumps(said))
    with pytest.raises(Exception, match="which need"):
        files.load(small.folder)


def _conv():
    from tests.compress.models import made

    return made(decoder(layer(CONV, SKIP)))
