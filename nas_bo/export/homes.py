"""Which stock classes there are for a decoder, and what each of them can be. Data only; `nas_bo.export.fits` reads it.

A class that wants all layers of one size also holds layers of several: what is missing is filled with weights of zero, which changes no
output (`nas_bo.export.uniform`). How much that adds is reported, and can be bounded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

ACTIVATIONS: Mapping[str, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "silu": "silu",
    "relu2": "relu2",
}
"""The name of nas_bo -> the name of transformers."""


@dataclass(frozen=True)
class Home:
    """What a stock class of transformers, or an architecture of llama.cpp, can be.

    Attributes:
        mixers, mlps: kinds of blocks, absent ones aside.
        absent: blocks may be absent as they are; else they are filled with zeros.
        sizes: "one": all layers alike; "each": heads, keys and MLPs of every layer as they are.
        grouped: whether query heads may share keys and values.
        square: whether heads times their dimension must be the width.
        divides: whether the width must be a multiple of the number of heads, whatever their dimension is.
        window: "none", "one" for all layers, or "each": some layers have the one window and others none.
        biases: whether matrices may have biases.
        attention_bias: the same of attention's, where it differs; "qkv" for those of queries, keys and values alone.
        renormalise: of mixtures; None is either.
        dense_too: whether layers without a mixture may be next to mixtures.
        shared: each mixture has an expert that all tokens go to, of a multiple of its other experts' channels; that one holds a dense MLP, next to
            experts of zeros.
        scalings: of rotary positions.
    """

    name: str
    mixers: tuple[str, ...] = ("attention",)
    mlps: tuple[str, ...] = ("dense",)
    norm: str = "rms"
    norm_place: str = "pre"
    position: tuple[str, ...] = ("rotary",)
    parallel: tuple[int, ...] = (0,)  # 0: blocks in turn; else the number of norms
    gated: bool = True
    activations: tuple[str, ...] = tuple(ACTIVATIONS)
    qk_norm: str | None = None
    absent: bool = False
    sizes: str = "one"
    grouped: bool = True
    square: bool = False
    divides: bool = False
    window: str = "none"
    biases: bool = False
    attention_bias: bool | str = False
    partial: bool = False
    renormalise: bool | None = None
    dense_too: bool = False
    shared: bool = False
    least_top_k: int = 1
    tied: tuple[bool, ...] = (True, False)
    scalings: tuple[str | None, ...] = (None, "linear", "llama3", "yarn")
    cap: bool = False
    scaled: bool = False


TRANSFORMERS = (
    Home("Llama", divides=True, biases=True, attention_bias=True),
    Home("Mistral", window="one"),
    Home("Qwen3", qk_norm="head", attention_bias=True, window="each"),
    Home("SmolLM3", position=("rotary", "none"), window="each", biases=True, attention_bias=True),
    Home("Qwen2", attention_bias="qkv", window="each"),
    Home("Arcee", divides=True, gated=False, biases=True, attention_bias=True),
    Home("NemotronH", position=("none",), gated=False, absent=True, scalings=(None,)),
    Home("Lfm2", mixers=("attention", "conv"), qk_norm="head", activations=("silu",)),
    Home("Olmo2", norm_place="post", qk_norm="whole", attention_bias=True),
    Home("Mixtral", mlps=("moe",), renormalise=True, window="one", least_top_k=2),
    Home("Qwen2Moe", mlps=("moe",), dense_too=True, window="each", attention_bias="qkv"),
    Home("Qwen3Moe", mlps=("moe",), dense_too=True, qk_norm="head", attention_bias=True),
    Home("Olmoe", mlps=("moe",), square=True, qk_norm="whole", attention_bias=True),
    Home("Gemma2", divides=True, norm_place="sandwich", window="each", activations=("gelu_tanh",), attention_bias=True, cap=True, scaled=True, tied=(True,)),
    Home("Starcoder2", norm="layer", gated=False, window="one", biases=True, attention_bias=True, scalings=(None, "linear", "llama3", "yarn")),
    Home("GPTNeoX", norm="layer", gated=False, grouped=False, square=True, parallel=(0, 2), partial=True, biases=True, attention_bias=True),
    Home("GPT2", norm="layer", gated=False, grouped=False, square=True, position=("learned", "none"), biases=True, attention_bias=True, scalings=(None,)),
)  # fmt: skip
"""The first that holds a decoder without zeros is taken; if none does, the one with the fewest."""

GGUF = (
    Home("llama", activations=("silu",), scalings=(None, "linear")),
    Home("llama", mlps=("moe",), activations=("silu",), renormalise=True, least_top_k=2, scalings=(None, "linear")),
    Home("bailingmoe", mlps=("moe",), activations=("silu",), dense_too=True, shared=True, scalings=(None, "linear")),
    Home("deci", activations=("silu",), sizes="each", scalings=(None, "linear")),
    Home("qwen3", activations=("silu",), qk_norm="head", scalings=(None, "linear")),
    Home("arcee", gated=False, activations=("relu2",), scalings=(None, "linear")),
    Home("lfm2", mixers=("attention", "conv"), qk_norm="head", activations=("silu",), scalings=(None,)),
)
"""Those of llama.cpp that `nas_bo.export.gguf` writes."""

_ACTIVATIONS_OF_VLLM = {"Arcee": ("relu2",), "NemotronH": ("relu2",), "Gemma2": ("gelu_tanh",), "Starcoder2": ("gelu", "gelu_tanh"), "GPTNeoX": ("gelu", "gelu_tanh"), "GPT2": ("gelu", "gelu_tanh")}  # fmt: skip
VLLM = tuple(
    replace(home, activations=_ACTIVATIONS_OF_VLLM.get(home.name, ("silu",)))
    for home in TRANSFORMERS
    if home.name != "SmolLM3"
)
"""Those in the registry of vLLM's loader (vllm/model_executor/models/registry.py, text generation, read in November 2026), with the
activations that their modules there know. They were read, not run."""

RUNTIMES = {"transformers": TRANSFORMERS, "gguf": GGUF, "vllm": VLLM}
"""What a search can be asked to stay within."""
