"""The command and the function: a trained folder goes out, is checked there, and nothing wrong is handed over."""

from __future__ import annotations

import json
import math
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from nas_bo.cli.app import app
from nas_bo.errors import ExportError
from nas_bo.export import folder as files
from nas_bo.export.text import Text, byte_tokenizer
from nas_bo.pretrained.checkpoint import TrainedDecoder
from nas_bo.workflows.export import FORMATS, continued, export
from tests.cli.test_command import nas_bo
from tests.export.test_huggingface import CASES, SKIP, block, decoder, randomised
from tests.processes import WITHOUT_US, python

pytest.importorskip("transformers")


def folder(tmp_path, space, seed=0, name="trained"):
    """As `nas-bo train` leaves it, its weights at random."""
    from nas_bo.architecture import Architecture

    arch = space if isinstance(space, Architecture) else space.sample(seed)
    files.write(tmp_path / name, files.files(randomised(arch, 256), arch, {"tokenizer": "bytes", "values": {}}, ()))
    return tmp_path / name


def named(tree):
    """An architecture without a space."""
    from nas_bo.architecture import Architecture

    return Architecture(tree, {})


LLAMA = named(CASES["Llama"])
UNLIKE = named(CASES["Llama, unlike layers"])
CONV = named(decoder((block("conv", kernel=4), SKIP)))


@pytest.fixture
def llama(tmp_path):
    return folder(tmp_path, LLAMA)


def test_what_goes_out_is_loaded_by_stock_transformers_in_another_process(llama, tmp_path):
    made = export(llama, tmp_path / "hf", "huggingface")
    assert made.check.good and made.check.difference < 1e-4 and "LlamaForCausalLM" in made.what
    code = (
        WITHOUT_US
        + "from transformers import pipeline; text = pipeline('text-generation', sys.argv[1])('def ', do_sample=False, max_new_tokens=12)\n"
        "print(repr(text[0]['generated_text']))"
    )
    done = python("-c", code, made.folder)
    assert done.returncode == 0, done.stderr
    assert continued(llama, "def ", 12, 0.0) == eval(done.stdout)
    card = (made.folder / "README.md").read_text()
    assert "library_name: transformers" in card and "largest difference" in card
    assert not (tmp_path / "hf.unverified").exists()


def test_bytes_are_a_vocabulary_for_transformers():
    tokenizer = byte_tokenizer()
    for text in ("def f(x):\n\treturn 'é€😀' # \x00\x7f", "  two  spaces ", "ünï\r\n"):
        assert tokenizer.encode(text).ids == list(text.encode()) == Text(None).ids(text)
        assert tokenizer.decode(list(text.encode())) == text


def test_zeros_are_bounded_and_said(tmp_path):
    trained = folder(tmp_path, UNLIKE)
    with pytest.raises(ExportError, match=r"only with \d+% more weights.*--padding.*--remote-code"):
        export(trained, tmp_path / "hf")
    made = export(trained, tmp_path / "hf", padding=5)
    assert made.check.good and "zeros added" in made.what


def test_what_no_stock_class_holds_says_which_field_and_goes_out_as_ours(tmp_path):
    trained = folder(tmp_path, CONV)
    with pytest.raises(ExportError, match=r"mixer is conv.*--remote-code"):
        export(trained, tmp_path / "hf")
    assert not (tmp_path / "hf").exists() and not (tmp_path / "hf.unverified").exists()
    made = export(trained, tmp_path / "hf", remote_code=True)
    assert made.check.good and "NasBoForCausalLM" in made.what
    code = (
        WITHOUT_US + "from transformers import pipeline\n"
        "text = pipeline('text-generation', sys.argv[1], trust_remote_code=True)('def ', do_sample=False, max_new_tokens=8)\n"
        "print(repr(text[0]['generated_text']))"
    )
    done = python("-c", code, made.folder)
    assert done.returncode == 0, done.stderr
    assert continued(trained, "def ", 8, 0.0) == eval(done.stdout)


def test_an_export_that_computes_something_else_is_kept_apart(llama, tmp_path, monkeypatch):
    from nas_bo.export import huggingface

    def wrong(model, home, spec):
        stock = converted(model, home, spec)
        stock.model.layers[1].mlp.down_proj.weight.data *= 1.1
        return stock

    converted = huggingface.converted
    monkeypatch.setattr(huggingface, "converted", wrong)
    with pytest.raises(ExportError, match="does not compute what the trained model computes"):
        export(llama, tmp_path / "hf")
    assert not (tmp_path / "hf").exists() and (tmp_path / "hf.unverified").is_dir()
    with pytest.raises(
        ExportError, match=r"hf\.unverified' is there: .* failed its check, or was killed .* give another folder"
    ):
        export(llama, tmp_path / "hf")


def test_what_cannot_be_is_refused_before_anything_is_written(llama, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "short.txt").write_text("def f(x):\n")
    for match, call in {
        "there is no format 'safetensors'": lambda: export(llama, tmp_path / "x", "safetensors"),
        "exists": lambda: export(llama, tmp_path / "there"),
        "there is no folder": lambda: export(tmp_path / "nothing", tmp_path / "x"),
        "padding": lambda: export(llama, tmp_path / "x", padding=-1),
        "there is no type 'Q4_K_X'": lambda: export(llama, tmp_path / "x", "gguf", type="Q4_K_X"),
        "--type belongs to the formats gguf and huggingface, not to onnx": lambda: export(
            llama, tmp_path / "x", "onnx", type="Q8_0"
        ),
        "--bits belongs to the formats onnx and openvino, not to huggingface": lambda: export(
            llama, tmp_path / "x", bits=8
        ),
        "--remote-code belongs to the format huggingface": lambda: export(
            llama, tmp_path / "x", "gguf", remote_code=True
        ),
        "--padding belongs to the formats huggingface and gguf, not to onnx": lambda: export(
            llama, tmp_path / "x", "onnx", padding=0.5
        ),
        "openvino has matrices of 8, 4, 3, 2 bits": lambda: export(llama, tmp_path / "x", "openvino", bits=5),
        "matrices of 8, 4, 2 bits": lambda: export(llama, tmp_path / "x", "onnx", bits=3),
        "--text says what fewer bits cost": lambda: export(llama, tmp_path / "x", text=llama / "model.json"),
        "does not say on which text": lambda: export(llama, tmp_path / "x", "gguf", type="Q8_0"),
        "cannot be read": lambda: export(llama, tmp_path / "x", "onnx", bits=8, text=tmp_path / "nothing.txt"),
        "at least 256 are needed": lambda: export(
            llama, tmp_path / "x", "onnx", bits=8, text=tmp_path / "there" / "short.txt"
        ),
    }.items():
        with pytest.raises(ExportError, match=match):
            call()
    about = json.loads((llama / "model.json").read_text())
    (llama / "model.json").write_text(json.dumps({**about, "tokenizer": "bpe.json"}))
    for format in FORMATS:
        with pytest.raises(ExportError, match=r"bpe\.json.*is not there any more"):
            export(llama, tmp_path / "x", format)
    (llama / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"no model\.safetensors"):
        export(llama, tmp_path / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"trained", "there"}


def test_an_architecture_that_is_broken_is_named_with_its_folder(llama, tmp_path):
    (llama / "arch.json").write_text("{")
    with pytest.raises(ExportError, match=r"arch\.json in '.*trained' cannot be read \(this is not JSON"):
        export(llama, tmp_path / "x")


@pytest.mark.parametrize("option", ["--alias", "--name"])
def test_an_alias_or_a_name_without_a_registry_is_refused(option):
    done = CliRunner().invoke(app, ["export", "nowhere", "--to", "x", option, "best"])
    assert done.exit_code == 2 and "give --mlflow as well" in done.output.replace("\n", " ")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mlflow", "nowhere://x"), "unknown scheme 'nowhere'"),
        (("--mlflow", "m.db", "--name", "a/b"), "--name a/b: the registry of MLflow does not take it"),
        (("--mlflow", "m.db", "--alias", "v1"), "--alias v1: the registry of MLflow does not take it"),
    ],
)
def test_a_registry_that_does_not_take_it_is_noticed_before_anything_is_written(
    options, said, llama, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", "trained", "--to", "x", "--format", "folder", *options])
    assert done.exit_code == 2 and said in done.output.replace("\n", " "), done.output
    assert {path.name for path in tmp_path.iterdir()} <= {"trained", "m.db"}


def test_the_command(llama, tmp_path):
    done = nas_bo("export", "trained", "--to", "hf", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["check"]["good"] and said["format"] == "huggingface"
    done = nas_bo("export", "trained", "--to", "hf", cwd=tmp_path)
    assert done.returncode == 2 and "exists" in done.stderr
    done = nas_bo("export", "trained", "--to", "copy", "--format", "folder", cwd=tmp_path)
    assert done.returncode == 0 and nas_bo("generate", "copy", "a", "--tokens", "3", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("format", [one for one in FORMATS if one not in ("huggingface", "folder")])
def test_the_other_formats_are_checked_where_they_run(llama, tmp_path, format):
    made = export(llama, tmp_path / "out", format)
    assert made.check.good and not made.unchecked
    assert f"model.{'xml' if format == 'openvino' else format}" in {path.name for path in made.folder.iterdir()}


@pytest.mark.parametrize(("format", "more"), [("gguf", {"type": "q8_0"}), ("onnx", {"bits": 8})])
def test_what_fewer_bits_cost_is_said_and_bounded(llama, tmp_path, format, more, monkeypatch):
    from nas_bo.export import check

    text = tmp_path / "text.txt"
    text.write_text("def f(x):\n    return x + 1\n" * 40)
    made = export(llama, tmp_path / "out", format, text=text, **more)
    assert made.check.good and made.check.text == "text.txt" and "bits per byte of text.txt" in str(made)
    card = (made.folder / "README.md").read_text()
    assert "bits per byte of text.txt" in card and "it continues" in card
    monkeypatch.setattr(check, "MOST_LOST", -1.0)
    with pytest.raises(ExportError, match="of little use any more"):
        export(llama, tmp_path / "other", format, text=text, **more)
    assert not (tmp_path / "other").exists() and (tmp_path / "other.unverified").is_dir()


@pytest.mark.parametrize(("value", "said"), [(0.0, "are all equal"), (math.nan, "are not all finite")])
def test_a_damaged_model_is_equal_to_any_export_and_is_refused(value, said, llama, tmp_path):
    damaged = tmp_path / "damaged"
    shutil.copytree(llama, damaged)
    weights = load_file(damaged / files.WEIGHTS)
    save_file({name: torch.full_like(one, value) for name, one in weights.items()}, damaged / files.WEIGHTS)
    for format in ("huggingface", "gguf", "onnx"):
        with pytest.raises(ExportError, match=f"the logits of the model in '.*damaged' {said}"):
            export(damaged, tmp_path / "out", format)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.unverified").exists()


@pytest.mark.parametrize("format", ["onnx", "openvino"])
def test_the_card_of_a_graph_runs_as_it_stands(format, llama, tmp_path):
    out = export(llama, tmp_path / "out", format).folder
    code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0].replace("range(100)", "range(15)")
    done = python("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout[:-1] == continued(llama, "def ", 12, 0.0)


def test_an_export_is_a_version_of_a_registered_model_that_stock_mlflow_loads(llama, tmp_path):
    args = ["trained", "--to", "hf", "--mlflow", "m.db", "--name", "tiny", "--alias", "best", "--json"]
    done = nas_bo("export", *args, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)["mlflow"]
    assert said["uri"] == "models:/tiny@best" and said["of"] is None
    code = (
        "import mlflow, pathlib, sys; mlflow.set_tracking_uri(sys.argv[1])\n"
        "text = mlflow.transformers.load_model('models:/tiny@best')('def ', do_sample=False, max_new_tokens=12)[0]['generated_text']\n"
        "folder = mlflow.artifacts.download_artifacts('models:/tiny@best')\n"
        "import pandas; loaded, frame = mlflow.pyfunc.load_model('models:/tiny@best'), pandas.DataFrame({'prompt': ['def ']})\n"
        "assert 'def ' in str(loaded.predict(frame)), frame\n"
        "few = {'do_sample': False, 'max_new_tokens': 12}\n"
        "assert [*loaded.predict(frame, params=few)] == [text], text\n"
        "warm = {'do_sample': True, 'max_new_tokens': 12, 'temperature': 5.0, 'top_k': 1, 'top_p': 1.0}\n"
        "assert [*loaded.predict(frame, params=warm)] == [text], 'the likeliest token, whatever the temperature'\n"
        "assert not [p for p in pathlib.Path(folder).rglob('*') if p.suffix in ('.pkl', '.pickle', '.bin', '.pt')]\n"
        "modes = {p.stat().st_mode for p in pathlib.Path(folder).rglob('*') if p.is_file()}\n"
        "assert len(modes) == 1, 'the weights can be read by whoever can read the rest'\n"
        "print(repr(text))"
    )
    done = python("-c", code, f"sqlite:///{tmp_path}/m.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert eval(done.stdout.splitlines()[-1]) == continued(llama, "def ", 12, 0.0)


def test_what_cannot_be_checked_is_named(llama, tmp_path, monkeypatch):
    from nas_bo.export import llamacpp

    monkeypatch.setattr(llamacpp, "PACKAGE", "no_such_package")
    made = export(llama, tmp_path / "out", "gguf")
    assert made.check is None and "llamacpp" in made.unchecked and "not checked" in str(made)
    assert "Not checked" in (made.folder / "README.md").read_text()


def test_the_card_has_the_figures_with_their_intervals_and_leaves_out_what_is_not_known():
    from nas_bo.export.card import card

    searched = {
        "label": "d48 A4",
        "values": {"latency_ms": 1.5, "parameters": 75504.0},
        "units": {"latency_ms": "ms", "parameters": ""},
        "intervals": {"latency_ms": {"low": 1.4, "high": 1.6, "level": 0.9}},
    }
    text = card({"searched": searched, "provenance": {"device": "a processor"}}, "use\n")
    assert "| latency_ms | 1.5 | 1.4 to 1.6 (90%) | ms |" in text and "a processor" in text
    assert "# a decoder" in card({}, "use\n") and "None" not in card({}, "use\n")


def test_the_card_says_that_a_model_was_made_smaller_or_is_a_part_of_another():
    from nas_bo.export.card import card

    steps = [{"name": "the trained model"}, {"name": "5.33 bits a weight by gptq"}]
    assert "Made smaller afterwards: 5.33 bits a weight by gptq." in card({"compression": {"steps": steps}}, "use\n")
    part = {"part_of": {"name": "teacher", "parameters": 4000}, "tokens": 0, "parameters": 2000}
    text = card(part, "use\n")
    assert "the part of teacher (4,000 parameters)" in text and "not trained any further" in text
    assert "0 tokens" not in text and "architecture search." not in text
    assert "Trained on further, on 1,000 tokens" in card({**part, "tokens": 1000}, "use\n")


def test_a_training_that_has_not_ended_is_named_so(tmp_path):
    (tmp_path / "training.pt").write_bytes(b"")
    with pytest.raises(ExportError, match="has not come to its end.*continues it"):
        export(tmp_path, tmp_path / "x")


def test_weights_that_were_rounded_are_said_to_be_float32_now(tmp_path):
    from nas_bo.workflows.compress import compress

    (tmp_path / "text.txt").write_text("def f(x):\n    return x\n" * 2000)
    small = compress(folder(tmp_path, LLAMA), tmp_path / "small", bits=4, data=str(tmp_path / "text.txt"), method="rtn")
    made = export(small.folder, tmp_path / "hf")
    assert "rounded weights as float32" in made.what and "Made smaller" in (made.folder / "README.md").read_text()


@pytest.mark.parametrize("format", ["huggingface", "gguf"])
def test_a_byte_level_tokenizer_goes_out_with_the_model(tmp_path, format):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|end|>"], show_progress=False
    )
    made.train_from_iterator([f"def f{i}(x):\n    return x + {i}\n" for i in range(300)], trainer)
    model = randomised(CASES["Llama"], 300)
    trained = tmp_path / "trained"
    files.write(trained, files.files(model, LLAMA, {"tokenizer": "bpe.json", "values": {}}, ()))
    made.save(str(trained / "tokenizer.json"))
    assert export(trained, tmp_path / "out", format).check.good
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.save(str(trained / "tokenizer.json"))
    if format == "gguf":
        with pytest.raises(ExportError, match="byte-level BPE"):
            export(trained, tmp_path / "other", format)


EXPERTS = named(
    decoder(
        (
            block("attention", heads=4, kv_group=2, head_dim=8),
            block("moe", experts=4, top_k=2, ratio=1, activation="silu", gated=True),
        )
    )
)


@pytest.mark.parametrize(
    ("format", "said"), [("huggingface", "MixtralForCausalLM"), ("gguf", "GGUF 'llama'"), ("onnx", "ONNX")]
)
def test_a_mixture_of_experts_goes_out_by_the_command(format, said, tmp_path, monkeypatch):
    folder(tmp_path, EXPERTS)
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["export", "trained", "--to", "out", "--format", format, "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.output)
    assert found["check"]["good"] and found["check"]["difference"] < 1e-3 and said in found["what"], found


def test_the_storage_of_a_search_in_the_place_of_a_folder_is_recognised(tmp_path):
    (tmp_path / "study.db").write_text("")
    with pytest.raises(
        ExportError, match=r"is a file, the storage of a search: `nas-bo train .*study.db --to DIR` makes"
    ):
        files.about(tmp_path / "study.db")
    with pytest.raises(ExportError, match=r"study.db' is a file, not a folder; give that of a model"):
        TrainedDecoder(str(tmp_path / "study.db"))
