"""A search that stays within what stock tools serve."""

from __future__ import annotations

import json

import pytest

from nas_bo import Space, choice, search
from nas_bo.errors import ObjectiveError, SearchError
from nas_bo.export.fits import fits
from nas_bo.export.homes import RUNTIMES
from nas_bo.model import conv, dense
from nas_bo.objectives import Flops, Parameters, Servable
from nas_bo.search_spaces import NAMED, Llama, TinyGPT
from tests.cli.test_command import QUICK, nas_bo
from tests.export.test_huggingface import MOE, A, attention, block, decoder


def test_it_counts_what_has_no_place_and_says_which_class_holds_it():
    from nas_bo.architecture import Architecture

    fit = Architecture(decoder((A, block("dense", ratio=2, activation="silu", gated=True))), {})
    assert Servable()(fit) == 0 and Servable()(fit).info["how"] == "Llama"
    wrong = Architecture(decoder((block("conv", kernel=4), MOE), (attention(sinks=True), MOE)), {})
    assert Servable()(wrong) >= 2 and "conv" in Servable()(wrong).info["how"]


@pytest.mark.parametrize("name", ["llama_uniform", "lfm2_tiny"])
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_architecture_of_these_spaces_is_served(name, runtime):
    for seed in range(40):
        assert Servable(runtime)(NAMED[name].sample(seed)) == 0


def test_layers_of_different_sizes_need_zeros_in_transformers_and_none_in_llama_cpp():
    arch = next(a for a in map(Llama.sample, range(99)) if len({layer.mixer.heads for layer in a.layers}) > 1)
    assert Servable("gguf", padding=0)(arch) == 0 and Servable("transformers", padding=0)(arch) == 1
    assert Servable("transformers", padding=5)(arch) == 0


def test_a_search_keeps_to_it():
    result = search(TinyGPT, [Parameters(), Flops()], limits=[Servable()], trials=12, retrain=0, seed=3)
    assert result.front
    for trial in result.front:
        assert not fits(trial.architecture, RUNTIMES["transformers"])[0].reasons


class Convolutions(Space):
    depth = choice(1, 2)
    width = choice(32, 48)
    mixer = conv(kernel=4)
    mlp = dense(ratio=2)


def test_what_cannot_be_is_refused():
    with pytest.raises(ObjectiveError, match="there is no such runtime"):
        Servable("tensorrt")
    with pytest.raises(ObjectiveError, match="padding"):
        Servable(padding=-1)
    with pytest.raises(SearchError, match="servable_gguf"):
        search(Convolutions, [Parameters()], limits=[Servable("gguf")], trials=3, retrain=0)


def test_the_option(tmp_path):
    more = [
        "--space", "lfm2_tiny", "--servable", "gguf", "--objective", "parameters", "--objective", "mflops", "--json",
        "--retrain", "0",
    ]  # fmt: skip
    done = nas_bo("search", *QUICK, *more, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["complete"] == 4
    done = nas_bo("search", *QUICK, "--servable", "nonsense", cwd=tmp_path)
    assert done.returncode == 2 and "there is no such runtime" in done.stderr
