"""The comparison itself: what it must see, with decoders of this package in the place of the other program."""

from __future__ import annotations

import pytest
import torch

from nas_bo.export import check
from nas_bo.export.check import compared, prompt
from nas_bo.model import build
from tests.export.test_huggingface import FLAT, attention, decoder, randomised


def other(model, arch):
    """Another program: a decoder of `arch` with the weights of `model`."""
    made = build(arch, model.vocab_size).eval()
    made.load_state_dict(model.state_dict())

    def logits(ids):
        with torch.inference_mode():
            return made(torch.tensor([ids]))[0].numpy()

    return logits


def windowed(width):
    return decoder((attention(window=width), FLAT))


@pytest.mark.parametrize("width", [7, 90, 200])
def test_a_window_that_is_off_by_one_is_seen_however_wide_it_is(width):
    model = randomised(windowed(width))
    same, apart = (compared(model, "another", other(model, windowed(one))) for one in (width, width + 1))
    assert same.good and same.difference == 0 and not same.unfilled
    assert not apart.good, apart


def test_a_window_that_is_too_wide_to_be_filled_is_named(monkeypatch):
    monkeypatch.setattr(check, "WIDEST", 100)
    found = compared(randomised(windowed(150)), "another", other(randomised(windowed(150)), windowed(150)))
    assert found.good and found.unfilled == (150,) and "windows of 150 tokens were not filled" in str(found)


def test_a_prompt_leaves_room_for_what_is_written_after_it():
    arch = decoder((attention(4, 1, window=50), FLAT), norm="layer", position="learned", max_length=70)
    assert len(prompt(randomised(arch))) == 70 - check.CONTINUED
