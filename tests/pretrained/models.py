"""Small models of transformers with random weights, in folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

SIZES = {
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
}


def bytes_tokenizer() -> Tokenizer:
    """Each byte is a token, in GPT-2's alphabet."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(BPE({letter: index for index, letter in enumerate(letters)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def saved(folder: Path, family: str = "Llama", seed: int = 0, spread: float = 0.1, **config: Any) -> Path:
    """A model of a family in a folder, with a tokenizer."""
    import transformers

    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        made = getattr(transformers, f"{family}Config")(**{**SIZES, **config})
        model = transformers.AutoModelForCausalLM.from_config(made).eval()
        with torch.no_grad():
            for name, weight in model.named_parameters():
                weight.normal_(1.0 if "norm" in name or ".ln_" in name else 0.0, spread)
    model.save_pretrained(folder)
    bytes_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def trained(folder: Path, text: str, tokens: float = 40_000, **fields: Any) -> Path:
    """A small decoder of nas_bo trained on a text, in a folder as `nas-bo train` writes it."""
    from nas_bo.architecture import Architecture, Node
    from nas_bo.export import folder as files
    from nas_bo.model import load_corpus, train

    layer = Node(
        {
            "mixer": Node({"kind": "attention", "heads": 4, "kv_group": 2}),
            "mlp": Node({"kind": "dense", "ratio": 1.5, "activation": "silu", "gated": True}),
        }
    )
    arch = Architecture(Node({"width": 32, "layers": (layer,) * 2, **fields}), {})
    made = train(arch, load_corpus(text), tokens, lr=6e-3, sequence=32)
    files.write(folder, files.files(made.model, arch, {"tokenizer": "bytes"}, ()))
    return folder
