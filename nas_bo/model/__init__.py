"""ROOM 2, the decoder: the vocabulary of blocks, what they cost, how they are built and trained.

Names are resolved when first used, so that writing a search space or counting parameters loads no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nas_bo import moved
from nas_bo.model.blocks.table import OURS

if TYPE_CHECKING:
    from nas_bo.model.counts import Operation as Operation
    from nas_bo.model.counts import active_parameters as active_parameters
    from nas_bo.model.counts import flops as flops
    from nas_bo.model.counts import kv_cache_bytes as kv_cache_bytes
    from nas_bo.model.counts import operations as operations
    from nas_bo.model.counts import parameters as parameters
    from nas_bo.model.data import Corpus as Corpus
    from nas_bo.model.data import load_corpus as load_corpus
    from nas_bo.model.decoder import Cache as Cache
    from nas_bo.model.decoder import Decoder as Decoder
    from nas_bo.model.decoder import build as build
    from nas_bo.model.inference import evaluate as evaluate
    from nas_bo.model.inference import generate as generate
    from nas_bo.model.own_model import CachedDecoder as CachedDecoder
    from nas_bo.model.spec import DecoderSpec as DecoderSpec
    from nas_bo.model.spec import check as check
    from nas_bo.model.spec import connections_fit as connections_fit
    from nas_bo.model.stacked_training import train_many as train_many
    from nas_bo.model.training import Training as Training
    from nas_bo.model.training import TrainingResult as TrainingResult
    from nas_bo.model.training import train as train
    from nas_bo.model.vocabulary import attention as attention
    from nas_bo.model.vocabulary import conv as conv
    from nas_bo.model.vocabulary import dense as dense
    from nas_bo.model.vocabulary import gated_delta as gated_delta
    from nas_bo.model.vocabulary import label as label
    from nas_bo.model.vocabulary import latent_attention as latent_attention
    from nas_bo.model.vocabulary import linear_attention as linear_attention
    from nas_bo.model.vocabulary import moe as moe
    from nas_bo.model.vocabulary import skip as skip
    from nas_bo.model.vocabulary import ssm as ssm
    from nas_bo.model.vocabulary import word as word

_HOME = {
    **dict.fromkeys(("attention", "conv", "dense", "gated_delta", "label", "latent_attention"), "vocabulary"),
    **dict.fromkeys(("linear_attention", "moe", "skip", "ssm", "word"), "vocabulary"),
    **dict.fromkeys(
        ("Operation", "active_parameters", "flops", "kv_cache_bytes", "operations", "parameters"), "counts"
    ),
    **dict.fromkeys(("DecoderSpec", "check", "connections_fit"), "spec"),
    **dict.fromkeys(("Cache", "Decoder", "build"), "decoder"),
    **dict.fromkeys(("Corpus", "load_corpus"), "data"),
    **dict.fromkeys(("evaluate", "generate"), "inference"),
    "CachedDecoder": "own_model",
    "train_many": "stacked_training",
    **dict.fromkeys(("Training", "TrainingResult", "train"), "training"),
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name in _HOME or name in OURS:
        value = getattr(import_module(f"nas_bo.model.{_HOME.get(name, 'vocabulary')}"), name)
        globals()[name] = value
        return value
    return moved.value(__name__, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
