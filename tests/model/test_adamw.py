"""The optimiser of every training: the steps of torch's own, without what torch loads for compiling them."""

from __future__ import annotations

import os
import subprocess
import sys

import torch

from nas_bo.model.adamw import AdamW

TRAINING = """
import sys
from nas_bo.model import load_corpus, train
from tests.model.architectures import CONV, DENSE, decoder, layer
train(decoder(layer(CONV, DENSE), width=16), load_corpus(), 6000, seed=1)
assert "torch" in sys.modules and "torch._dynamo" not in sys.modules
"""


def test_steps_state_and_resumption_are_those_of_torch() -> None:
    ends = []
    for kind in (torch.optim.AdamW, AdamW):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(5, 7), torch.nn.Tanh(), torch.nn.Linear(7, 1))
        groups = [{"params": [p], "lr": 0.01 * (n + 1), "weight_decay": 0.1} for n, p in enumerate(model.parameters())]
        optimizer = kind(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
        for step in range(6):
            if step == 3:
                kept = optimizer.state_dict()
                optimizer = kind(groups, betas=(0.9, 0.95), eps=1e-8, fused=True)
                optimizer.load_state_dict(kept)
            optimizer.zero_grad()
            model(torch.randn(4, 5)).square().mean().backward()
            optimizer.step()
        assert all(p.requires_grad for p in model.parameters())
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(*ends)


def test_a_training_loads_no_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", TRAINING], env={**os.environ, "PYTHONPATH": os.getcwd()}, text=True,
                          capture_output=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
