"""The training script that examples/agent_loop.py edits: only the four settings may change. It does not use nas_bo."""

import sysconfig
from pathlib import Path

import torch
from torch import nn

DEPTH = 2
WIDTH = 64
BATCH = 8
LR = 0.001

# ---- nothing below this line may be edited ----

torch.set_num_threads(1)
torch.manual_seed(0)
source = Path(sysconfig.get_path("stdlib"), "argparse.py").read_bytes()
text = torch.frombuffer(bytearray(source), dtype=torch.uint8).long()
layers = [layer for _ in range(DEPTH) for layer in (nn.Linear(WIDTH, WIDTH), nn.ReLU())]
model = nn.Sequential(nn.Embedding(256, WIDTH), *layers, nn.Linear(WIDTH, 256))
optimizer = torch.optim.AdamW(model.parameters(), LR)
for _ in range(200):
    at = torch.randint(len(text) - 5000, (BATCH, 1)) + torch.arange(33)
    loss = nn.functional.cross_entropy(model(text[at[:, :-1]]).flatten(0, 1), text[at[:, 1:]].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
with torch.no_grad():
    held_out = nn.functional.cross_entropy(model(text[-5000:-1]), text[-4999:])
print(f"val_bpb: {held_out.item() / 0.6931:.4f}")
