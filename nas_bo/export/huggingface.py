"""A folder that transformers loads with one of its own classes, without code of nas_bo."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export import fits as fitting
from nas_bo.export import packed_weights
from nas_bo.export.check import Check, Logits, compared, prompt
from nas_bo.export.folder import TrainedModel
from nas_bo.export.homes import ACTIVATIONS, GGUF, TRANSFORMERS
from nas_bo.export.names import Names, copy_out, names
from nas_bo.export.text import TOKENIZER, Text, tokenizer_json
from nas_bo.export.token_roles import Roles, roles
from nas_bo.export.weights import filled
from nas_bo.model import Decoder
from nas_bo.model.blocks.table import stock_part_of
from nas_bo.model.spec import DecoderSpec

Config: TypeAlias = dict[str, object]  # of transformers, by its own names
Windows: TypeAlias = Sequence[int | None]  # of each layer

ONE_BY_ONE = 32  # tokens that a cache is tried with
POSITIONS = 2048  # that the configuration names; rotary positions have no end


def fit(made: TrainedModel, padding: float) -> fitting.Fit:
    """The stock class that holds a model with the fewest zeros (raises ExportError where none does)."""
    found = fitting.fits(made.model.spec, TRANSFORMERS, vocab_size=made.model.vocab_size)
    best = found[0]
    if best.reasons:
        raise ExportError(
            f"no stock class of transformers holds this architecture exactly. The nearest are {fitting.why_not(found)}. Search with "
            "--servable transformers to stay among those that fit, or export with --remote-code to a class of nas_bo's own"
        )
    if best.padding > padding:
        other = fitting.fits(made.model.spec, GGUF, vocab_size=made.model.vocab_size, every=False)[0]
        gguf = "export to gguf, whose layers may differ, " if not other.reasons and other.padding <= padding else ""
        raise ExportError(
            f"{best.home.name} holds this architecture only with {best.padding:.0%} more weights, all of them zeros, since its layers are of "
            f"different sizes; at most {padding:.0%} are allowed. Raise --padding, {gguf}export with --remote-code to a class of nas_bo's "
            "own, or search with --servable transformers"
        )
    return best


def no_stock_class(made: TrainedModel, padding: float) -> bool:
    """Whether `fit` has none to give."""
    best = fitting.fits(made.model.spec, TRANSFORMERS, vocab_size=made.model.vocab_size)[0]
    return bool(best.reasons) or best.padding > padding


def write(made: TrainedModel, folder: Path, padding: float, packed: bool = False) -> tuple[str, Check]:
    """Write the files into a folder, and compare what transformers makes of them with the model.

    Args:
        packed: write the integers of a quantized model (`nas_bo.export.packed_weights`).

    Returns:
        What was written, in a sentence; and the comparison.

    Raises:
        ExportError: no class fits, or the tokenizer is gone; with `packed`, there is nothing that can be packed.
        MissingExtra: transformers is not installed; with `packed`, compressed-tensors.
    """
    transformers = imported()
    if packed:
        packed_weights.check(made)
    best = fit(made, padding)
    assert best.spec is not None
    stock, what = converted(made.model, best.home.name, best.spec), ""
    said = generation(made.model, roles(made.tokenizer))
    stock.generation_config = transformers.GenerationConfig(**said)
    for name in ("bos_token_id", "eos_token_id"):  # servers look here
        setattr(stock.config, name, said[name])
    with (
        without_bars(),
        redirect_stderr(io.StringIO()) if packed else nullcontext(),
    ):  # compressed-tensors has bars, too
        if packed:
            found = packed_weights.of_stock(made, stock, best.spec, _table(best.home.name, best.spec))
            what = packed_weights.write(stock, folder, found)
        else:
            stock.save_pretrained(folder)
        write_tokenizer(made, folder)
        loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype="float32").eval()
        check = compared(made.model, f"transformers {transformers.__version__}", lambda ids: logits(loaded, ids))
        check = with_cache(made.model, loaded, check)
    added = f"{best.padding:.1%} of zeros added" if best.padding > 0 else ""
    return ", ".join(one for one in (type(loaded).__name__, added, what) if one), check


def logits(model: Any, ids: list[int]) -> Logits:
    import torch

    with torch.inference_mode():
        found: Logits = model(torch.tensor([ids])).logits[0].float().numpy()
    return found


def with_cache(model: Decoder, loaded: Any, check: Check) -> Check:
    """`check` and what the loaded model gives where half of the tokens go in at once and the others, at most `ONE_BY_ONE`, one by one,
    with its cache."""
    import torch

    ids = prompt(model)
    half = max(1, len(ids) // 2, len(ids) - ONE_BY_ONE)
    parts: list[Any] = []
    kept: dict[str, Any] = {}
    with torch.inference_mode():
        expected = model(torch.tensor([ids]))[0].float()
        for piece in [ids[:half], *([one] for one in ids[half:])]:
            given = loaded(torch.tensor([piece]), use_cache=True, **kept)
            name = "cache" if "cache" in given else "past_key_values"  # before transformers 5.24
            kept = {name: given[name]}
            parts.append(given.logits[0].float())
    apart = float((torch.cat(parts) - expected).abs().max())
    return replace(check, difference=max(check.difference, apart if apart == apart else float("inf")), cached=True)


def generation(model: Decoder, said: Roles) -> dict[str, object]:
    """How text is written with the model where nobody says otherwise; `said` are the roles of its tokens."""
    most = model.spec.details.max_length
    return {
        "do_sample": True,
        "temperature": 0.7,
        "max_new_tokens": 128 if most is None else max(1, min(128, most // 2)),
        "bos_token_id": said.ids.get("bos"),
        "eos_token_id": [*said.ends] or None,
        "pad_token_id": said.ids.get("pad", said.ends[0] if said.ends else 0),
    }


@contextmanager
def without_bars() -> Iterator[None]:
    """transformers draws a bar for every file that it reads or writes."""
    from transformers.utils import logging as library

    logging: Any = library  # untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def imported() -> Any:
    """transformers (raises MissingExtra)."""
    try:
        import transformers
    except ImportError:
        raise MissingExtra("transformers", "transformers") from None
    return transformers


def converted(model: Decoder, home: str, spec: DecoderSpec) -> Any:
    """The stock model with the weights of `model`; `spec` is the decoder as the class has it."""
    import torch

    transformers = imported()
    try:
        kind = getattr(transformers, f"{home}Config")
        said = configuration(spec, home, model.vocab_size)
        has = {
            *kind().to_dict(),
            *kind.attribute_map,
        }  # others would be written into the file, where readers wonder about them
        if said["head_dim"] * said["num_attention_heads"] != spec.width:  # type: ignore[operator]
            has.add("head_dim")  # classes look for it whether they have it or not
        config = kind(**{name: value for name, value in said.items() if name in has})
        with torch.random.fork_rng([]):
            stock = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    except Exception as error:  # its checks have no common base; another version may ask for something else
        raise ExportError(
            f"{home} of transformers {transformers.__version__} does not take this architecture ({' '.join(str(error).split())[:300]}), though it "
            "should; export to onnx or gguf, and please report this"
        ) from error
    copy_out(filled(model, spec), spec, stock, _table(home, spec))
    stock.generation_config = transformers.GenerationConfig(**generation(model, Roles({}, {})))
    return stock


def _table(home: str, spec: DecoderSpec) -> Names:
    attention = fitting.attentions(spec)
    return names(home, attention[0].heads if attention else 1)


def tokenizer_file(made: TrainedModel, folder: Path) -> None:
    """The tokenizer as a file of the package tokenizers."""
    (folder / TOKENIZER).write_text(tokenizer_json(made.tokenizer), encoding="utf-8")


def write_tokenizer(made: TrainedModel, folder: Path) -> None:
    """The tokenizer as transformers loads it; bytes as one of 256 tokens (raises ExportError where it cannot be read)."""
    from tokenizers import Tokenizer

    transformers = imported()
    tokenizer = Tokenizer.from_str(tokenizer_json(made.tokenizer))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    said = roles(made.tokenizer)
    named = {f"{role}_token": token for role, token in said.names.items()}
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, chat_template=said.template or None, **named
    )
    wrapped.save_pretrained(folder)
    sample = "def f(x):\n    return 'é' + x  # 1\n"
    again = transformers.PreTrainedTokenizerFast.from_pretrained(folder)(sample, add_special_tokens=False)["input_ids"]
    if again != Text(made.tokenizer).ids(sample):
        raise ExportError(
            "transformers makes other tokens of a text than the tokenizer of the model does, so the export would be of no use; export to "
            "another format, and please report the tokenizer"
        )


def configuration(spec: DecoderSpec, home: str, vocab_size: int) -> Config:
    """What the class is configured with."""
    details, attention = spec.details, fitting.attentions(spec)
    mlps = fitting.mlps_of(spec)
    eps = details.norm_eps or (1e-5 if spec.norm == "layer" else 1e-6)
    first = attention[0] if attention else None
    heads = 1 if first is None else first.heads
    kv_heads = 1 if first is None else first.kv_heads
    dense = next((one.hidden for one in mlps if not one.experts), 0) or mlps[0].hidden if mlps else 1
    positions = int((details.rope_length or POSITIONS) * (details.rope_factor or 1))
    said: Config = {
        "vocab_size": vocab_size,
        "hidden_size": spec.width,
        "intermediate_size": dense,
        "num_hidden_layers": len(spec.layers),
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": spec.width if first is None else first.head_dim,
        "hidden_act": ACTIVATIONS[mlps[0].activation] if mlps else "silu",
        "max_position_embeddings": details.max_length or positions,
        "tie_word_embeddings": spec.tied,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "rms_norm_eps": eps,
        "rope_parameters": _rope(spec),
    }
    biased = any(any(one.biases(spec.frame)) for one in attention)
    mixers = [stock_part_of(layer.mixer, spec.frame).attention for layer in spec.layers]
    windows = [None if one is None else one.window for one in mixers]
    return said | _SPECIAL.get(home, _nothing)(spec, said, biased, windows)


def _rope(spec: DecoderSpec) -> Config:
    details = spec.details
    said: Config = {"rope_type": details.rope_scaling or "default", "rope_theta": details.rope_theta}
    if details.rope_scaling is not None:
        said["factor"] = details.rope_factor
    if details.rope_scaling in ("llama3", "yarn"):
        low, high = (
            ("low_freq_factor", "high_freq_factor") if details.rope_scaling == "llama3" else ("beta_slow", "beta_fast")
        )
        said |= {
            "original_max_position_embeddings": details.rope_length,
            low: details.rope_low,
            high: details.rope_high,
        }
    return said


def _nothing(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    return {"attention_bias": biased, "mlp_bias": spec.bias}


def _windowed(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    """Full and sliding layers by name."""
    one = next((window for window in windows if window is not None), None)
    kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
    return {
        "attention_bias": biased,
        "mlp_bias": spec.bias,
        "use_sliding_window": one is not None,
        "sliding_window": one,
        "layer_types": kinds,
        "max_window_layers": 0,
    }


def _smollm3(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    turned = int(spec.position == "rotary")
    return {**_windowed(spec, said, biased, windows), "no_rope_layers": [turned] * len(spec.layers)}


def _mistral(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    return {"sliding_window": next((window for window in windows if window is not None), None)}


def _starcoder2(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    return {**_mistral(spec, said, biased, windows), "norm_epsilon": said["rms_norm_eps"], "use_bias": True}


def _nemotron_h(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    from nas_bo.model.blocks.skip import absent

    kinds = [
        kind
        for layer in spec.layers
        for kind, block in (("full_attention", layer.mixer), ("mlp", layer.mlp))
        if not absent(block)
    ]
    return {
        "layers_block_type": kinds,
        "num_hidden_layers": len(kinds),
        "mlp_hidden_act": said["hidden_act"],
        "layer_norm_epsilon": said["rms_norm_eps"],
        "tie_word_embeddings": False,  # its own tying does nothing at construction
    }


def _lfm2(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    kernels = [one.kernel for one in fitting.convs(spec)]
    return {
        "norm_eps": said["rms_norm_eps"],
        "block_auto_adjust_ff_dim": False,
        "conv_L_cache": kernels[0] if kernels else 3,
        "layer_types": [
            "full_attention" if stock_part_of(layer.mixer, spec.frame).conv is None else "conv" for layer in spec.layers
        ],
    }


def _moe(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    mixture = next(one for one in fitting.mlps_of(spec) if one.experts)
    parts = [stock_part_of(layer.mlp, spec.frame).mlp for layer in spec.layers]
    dense = [one is None or not one.experts for one in parts]
    return {
        **_windowed(spec, said, biased, windows),
        "num_local_experts": mixture.experts,
        "num_experts": mixture.experts,
        "num_experts_per_tok": mixture.top_k,
        "norm_topk_prob": fitting.renormalised(mixture),
        "moe_intermediate_size": mixture.hidden,
        "shared_expert_intermediate_size": 1,
        "qkv_bias": biased,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [i for i, one in enumerate(dense) if one],
    }


def _gemma2(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    return {
        **_windowed(spec, said, biased, windows),
        "query_pre_attn_scalar": said["head_dim"],
        "attn_logit_softcapping": None,
        "final_logit_softcapping": spec.details.logit_cap,
        "hidden_activation": said["hidden_act"],
        "sliding_window": next((window for window in windows if window is not None), POSITIONS),
    }


def _neox(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    share = fitting.attentions(spec)[0].rotary_share
    return {
        "rope_parameters": {**_rope(spec), "partial_rotary_factor": share},
        "attention_bias": True,
        "layer_norm_eps": said["rms_norm_eps"],
        "use_parallel_residual": spec.parallel,
    }


def _gpt2(spec: DecoderSpec, said: Config, biased: bool, windows: Windows) -> Config:
    return {
        "n_embd": said["hidden_size"],
        "n_layer": said["num_hidden_layers"],
        "n_head": said["num_attention_heads"],
        "n_positions": said["max_position_embeddings"],
        "n_inner": said["intermediate_size"],
        "activation_function": said["hidden_act"],
        "layer_norm_epsilon": said["rms_norm_eps"],
    }


_SPECIAL: dict[str, Callable[[DecoderSpec, Config, bool, Windows], Config]] = {
    **dict.fromkeys(("Qwen2", "Qwen3"), _windowed),
    "SmolLM3": _smollm3,
    "Mistral": _mistral,
    "Starcoder2": _starcoder2,
    "NemotronH": _nemotron_h,
    "Lfm2": _lfm2,
    **dict.fromkeys(("Mixtral", "Olmoe", "Qwen2Moe", "Qwen3Moe"), _moe),
    "Gemma2": _gemma2,
    "GPTNeoX": _neox,
    "GPT2": _gpt2,
}
