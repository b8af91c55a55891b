"""A GGUF file for llama.cpp, in float32 or in one of its smaller types (`nas_bo.export.gguf_types`)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from nas_bo.errors import ExportError, MissingExtra
from nas_bo.export import fits as fitting
from nas_bo.export import homes, llamacpp
from nas_bo.export.check import Check, Cost, HeldOut, compared, own, prompt, weighed
from nas_bo.export.folder import TrainedModel
from nas_bo.export.gguf_types import INSTEAD, TYPES, rounded
from nas_bo.export.text import Text, byte_characters, tokenizer_json
from nas_bo.export.token_roles import SPLITS, Roles, roles, split_of
from nas_bo.export.weights import filled
from nas_bo.install_line import install_line
from nas_bo.model.blocks.attention import AttentionSpec
from nas_bo.model.blocks.dense import MlpSpec
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import stock_part_of
from nas_bo.model.decoder import Decoder
from nas_bo.model.spec import DecoderSpec

FILE = "model.gguf"
CONTEXT = 2048
SAMPLE = "def f(x):\n    return 'é' + x  # 12 of 2026\n\n\t I'll see.\r\n"
NEVER = "ĀĀ ĀĀ"
"""llama.cpp wants a merge. This one never happens, since neither half does; another would make tokens that there are none of."""
Tensors: TypeAlias = Iterator[tuple[str, NDArray[np.float32]]]
"""(name there, array) of weights."""
PAIRED = ("llama", "bailingmoe", "deci", "arcee")
"""Where rotary positions turn neighbours, not halves."""


def write(
    made: TrainedModel, folder: Path, padding: float, kind: str = "F32", held_out: HeldOut | None = None
) -> tuple[str, Check | Cost | None, str]:
    """Write the file, and compare what llama.cpp makes of it with the model.

    Args:
        kind: one of `nas_bo.export.gguf_types.TYPES`.
        held_out: what says how much types below float32 cost; needed with them.

    Returns:
        What was written; the comparison, None where llama.cpp is not installed, and then why.

    Raises:
        ExportError: no architecture of llama.cpp fits, the tokenizer is gone or of another kind, or llama.cpp cannot run the file.
        MissingExtra: gguf is not installed, or llama.cpp where the type needs it.
    """
    best = fit(made, padding)
    assert best.spec is not None
    vocabulary = tokens(made)
    path = folder / FILE
    kinds = file(path, best, made.model, vocabulary, made.architecture.id, kind)
    told = f"GGUF {best.home.name!r} in {'float32' if kind == 'F32' else _mixed(kind, kinds)}, {path.stat().st_size / 1e6:.3g} MB"
    told += f", {best.padding:.1%} of zeros added" if best.padding > 0 else ""
    if llamacpp.library() is None:
        return told, None, f"llama.cpp is not there to run it: {install_line('llamacpp')}"
    try:
        with llamacpp.LlamaCpp(path, made.model.vocab_size) as run:
            if run.tokenized(SAMPLE) != Text(made.tokenizer).ids(SAMPLE):
                raise ExportError(
                    "llama.cpp makes other tokens of a text than the tokenizer of the model does, so the export would be of no use; "
                    "export to huggingface, and please report the tokenizer"
                )
            if held_out is not None:
                return told, weighed(made.model, llamacpp.version(), run, held_out), ""
            check = compared(made.model, llamacpp.version(), run)
            return told, _cached(made.model, run, check), ""
    except OSError as error:
        raise ExportError(
            f"llama.cpp cannot run what was written ({error}), so it is not handed over; export to huggingface, and please report this"
        ) from None


def _cached(model: Decoder, run: llamacpp.LlamaCpp, check: Check) -> Check:
    """`check` and what comes where tokens go in one by one."""
    ids = prompt(model)
    apart = float(np.abs(run.one_by_one(ids, max(1, len(ids) // 2)) - own(model, [ids])[0]).max())
    return replace(check, difference=max(check.difference, apart if apart == apart else float("inf")), cached=True)


def _mixed(kind: str, kinds: Mapping[str, int]) -> str:
    """``Q4_K_M (weights: 60% Q5_0, 40% Q8_0)``, by the types that there really are."""
    total = sum(kinds.values())
    shares = sorted(kinds.items(), key=lambda one: -one[1])
    said = ", ".join(f"{count / total:.0%} {name}" for name, count in shares if count * 200 >= total)
    fell = [name for name in kinds if name not in (TYPES[kind], "F32", "Q6_K") and name in (*INSTEAD.values(), "F16")]
    more = ", since a K type needs rows of a multiple of 256 values" if fell and TYPES[kind].endswith("_K") else ""
    return f"{kind} (weights: {said}{more})"


def fit(made: TrainedModel, padding: float) -> fitting.Fit:
    """The architecture of llama.cpp that holds a model with the fewest zeros (raises ExportError where none does)."""
    found = fitting.fits(made.model.spec, homes.GGUF, vocab_size=made.model.vocab_size)
    best = found[0]
    if best.reasons:
        raise ExportError(
            f"no architecture of llama.cpp that nas_bo writes holds this one exactly. The nearest are {fitting.why_not(found)}. Search "
            "with --servable gguf to stay among those that fit, or export to huggingface (--remote-code where no stock class fits) or onnx"
        )
    if best.padding > padding:
        raise ExportError(
            f"GGUF {best.home.name!r} holds this architecture only with {best.padding:.0%} more weights, all of them zeros, and at most "
            f"{padding:.0%} are allowed; raise --padding, or search with --servable gguf"
        )
    return best


class Vocabulary(NamedTuple):
    """Tokens as a GGUF file has them.

    Attributes:
        names: by their ids.
        merges: in their order.
        split: the name in llama.cpp of how texts are split.
        control: ids of tokens that stand for no text.
    """

    names: list[str]
    merges: list[str]
    split: str = "gpt-2"
    control: frozenset[int] = frozenset()
    roles: Roles = Roles({}, {})


def tokens(made: TrainedModel) -> Vocabulary:
    """The tokens of a model (raises ExportError for a tokenizer that is not a byte-level BPE)."""
    if made.tokenizer is None:
        return Vocabulary(byte_characters(), [NEVER])
    about = json.loads(tokenizer_json(made.tokenizer))
    model, before = about["model"], about.get("pre_tokenizer") or {}
    split = split_of(about)
    if model.get("type") != "BPE" or split is None or about.get("normalizer") not in (None, {"type": "NFC"}):
        raise ExportError(
            f"GGUF files of nas_bo hold bytes or a byte-level BPE split as that of {', '.join(SPLITS)}, and the tokenizer is "
            f"{model.get('type')} after {before.get('type') or 'no'} splitting; export to huggingface or onnx"
        )
    added = about.get("added_tokens", ())
    every = {**model["vocab"], **{one["content"]: one["id"] for one in added}}
    names = [f"[unused{i}]" for i in range(made.model.vocab_size)]
    for name, index in every.items():
        if index < len(names):
            names[index] = name
    merges = [one if isinstance(one, str) else " ".join(one) for one in model["merges"]]
    control = frozenset(one["id"] for one in added if one.get("special"))
    return Vocabulary(names, merges or [NEVER], split, control, roles(made.tokenizer))


def file(
    path: Path, fit: fitting.Fit, decoder: Decoder, vocabulary: Vocabulary, ident: str, kind: str
) -> dict[str, int]:
    """Write the file of a decoder that fits; how many weights there are of each type.

    Raises:
        MissingExtra: gguf is not installed, or llama.cpp where the type needs it.
    """
    try:
        import gguf
    except ImportError:
        raise MissingExtra("gguf", "gguf") from None
    assert fit.spec is not None
    name, spec = fit.home.name, fit.spec
    model = filled(decoder, spec)
    writer = gguf.GGUFWriter(str(path), name)
    details, attention = spec.details, fitting.attentions(spec)
    dim = attention[0].head_dim if attention else spec.width
    each = name in ("deci", "lfm2")
    mixers = [stock_part_of(layer.mixer, spec.frame).attention for layer in spec.layers]
    heads = [0 if one is None else one.heads for one in mixers]
    kv = [0 if one is None else one.kv_heads for one in mixers]
    mlps = [stock_part_of(layer.mlp, spec.frame).mlp for layer in spec.layers]
    hidden = [0 if one is None else one.hidden for one in mlps]
    mixtures = [one for one in mlps if one is not None and one.experts]
    writer.add_name(ident)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(spec.width)
    writer.add_block_count(len(spec.layers))
    writer.add_feed_forward_length(hidden if name == "deci" else hidden[0])
    if mixtures:
        writer.add_expert_count(mixtures[0].experts)
        writer.add_expert_used_count(mixtures[0].top_k)
        writer.add_expert_feed_forward_length(mixtures[0].hidden)
    if fit.home.shared:
        writer.add_leading_dense_block_count(0)
        writer.add_expert_shared_count(fitting.shared_experts(spec))
        writer.add_expert_weights_norm(fitting.renormalised(mixtures[0]))
        writer.add_expert_weights_scale(1.0)
    writer.add_head_count(heads if name == "deci" else max(heads) or 1)
    writer.add_head_count_kv(kv if each else kv[0])
    writer.add_key_length(dim)
    writer.add_value_length(dim)
    writer.add_layer_norm_rms_eps(details.norm_eps or 1e-6)
    writer.add_rope_dimension_count(dim)
    writer.add_rope_freq_base(details.rope_theta)
    if details.rope_scaling == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(details.rope_factor or 1.0)
    writer.add_vocab_size(model.vocab_size)
    kernels = [one.kernel for one in fitting.convs(spec)]
    if name == "lfm2":
        writer.add_shortconv_l_cache(kernels[0] if kernels else 3)
    said = vocabulary.roles
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.split)
    writer.add_token_list(vocabulary.names)
    kind_of = {False: gguf.TokenType.NORMAL, True: gguf.TokenType.CONTROL}
    writer.add_token_types([kind_of[index in vocabulary.control] for index in range(len(vocabulary.names))])
    writer.add_token_merges(vocabulary.merges)
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("pad", writer.add_pad_token_id),
        ("unk", writer.add_unk_token_id),
    ):
        if role in said.ids:
            add(said.ids[role])
    if said.template:
        writer.add_chat_template(said.template)
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_file_type(gguf.LlamaFileType["ALL_F32" if kind == "F32" else f"MOSTLY_{kind}"])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    kinds: dict[str, int] = {}
    for where, array, made in rounded(_tensors(fit.home, spec, model), kind, len(spec.layers), spec.tied):
        writer.add_tensor(where, array, raw_dtype=None if made in ("F32", "F16") else gguf.GGMLQuantizationType[made])
        sizes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[made]]
        kinds[made] = kinds.get(made, 0) + array.nbytes * sizes[0] // sizes[1]
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return kinds


def _tensors(home: homes.Home, spec: DecoderSpec, model: Decoder) -> Tensors:
    name = home.name
    weights = {key: weight.detach().numpy() for key, weight in model.named_parameters()}
    yield "token_embd.weight", weights["embedding.weight"]
    yield ("token_embd_norm.weight" if name == "lfm2" else "output_norm.weight"), weights["norm.weight"]
    if home.shared or not spec.tied:  # llama.cpp ties no head of `bailingmoe`
        yield "output.weight", weights["embedding.weight" if spec.tied else "head.weight"]
    for index, (mixer, mlp) in enumerate(spec.layers):
        at, to = f"layers.{index}.", f"blk.{index}."
        if not absent(mixer):
            yield f"{to}attn_norm.weight", weights[f"{at}mixer_norm.weight"]
        part = stock_part_of(mixer, spec.frame)
        if part.attention is not None:
            yield from _attention(name, part.attention, weights, at, to)
        elif part.conv is not None:
            yield f"{to}shortconv.in_proj.weight", weights[f"{at}mixer.proj.weight"]
            yield f"{to}shortconv.conv.weight", weights[f"{at}mixer.taps"]
            yield f"{to}shortconv.out_proj.weight", weights[f"{at}mixer.out.weight"]
        if absent(mlp):
            continue
        yield f"{to}ffn_norm.weight", weights[f"{at}mlp_norm.weight"]
        if home.shared:
            yield from _with_shared(spec, mlp, weights, at, to)
        elif mlp.experts:
            yield f"{to}ffn_gate_inp.weight", weights[f"{at}mlp.router.weight"]
            yield from _mlp(f"{to}ffn_", "_exps", mlp, weights[f"{at}mlp.up"], weights[f"{at}mlp.out"])
        else:
            yield from _mlp(f"{to}ffn_", "", mlp, weights[f"{at}mlp.up.weight"], weights[f"{at}mlp.out.weight"])


def _mlp(to: str, end: str, mlp: MlpSpec, up: NDArray[np.float32], out: NDArray[np.float32]) -> Tensors:
    """up (wide, C) or (E, wide, C)"""
    if mlp.gated:
        gate, up = np.split(up, 2, axis=-2)
        yield f"{to}gate{end}.weight", gate
    yield f"{to}up{end}.weight", up
    yield f"{to}down{end}.weight", out


def _with_shared(
    spec: DecoderSpec, mlp: MlpSpec, weights: Mapping[str, NDArray[np.float32]], at: str, to: str
) -> Tensors:
    """A mixture and the expert that all tokens share, one of them of zeros."""
    mixture = next(one for one in fitting.mlps_of(spec) if one.experts)
    size, width = mixture.experts, spec.width
    hidden = mixture.hidden * fitting.shared_experts(spec)

    def zeros(*shape: int) -> NDArray[np.float32]:
        return np.zeros(shape, np.float32)

    routed = (zeros(size, width), zeros(size, mixture.wide, width), zeros(size, width, mixture.hidden))
    shared = (zeros(2 * hidden, width), zeros(width, hidden))
    if mlp.experts:
        routed = (weights[f"{at}mlp.router.weight"], weights[f"{at}mlp.up"], weights[f"{at}mlp.out"])
    else:
        shared = (weights[f"{at}mlp.up.weight"], weights[f"{at}mlp.out.weight"])
    yield f"{to}ffn_gate_inp.weight", routed[0]
    yield from _mlp(f"{to}ffn_", "_exps", mixture, *routed[1:])
    yield from _mlp(f"{to}ffn_", "_shexp", mixture, *shared)


def _attention(
    name: str, mixer: AttentionSpec, weights: Mapping[str, NDArray[np.float32]], at: str, to: str
) -> Tensors:
    q, k, v = np.split(weights[f"{at}mixer.qkv.weight"], np.cumsum(mixer.sizes)[:2])
    if name in PAIRED:
        q, k = _paired(q, mixer.heads), _paired(k, mixer.kv_heads)
    yield from ((f"{to}attn_{part}.weight", one) for part, one in (("q", q), ("k", k), ("v", v)))
    yield f"{to}attn_output.weight", weights[f"{at}mixer.out.weight"]
    for part in "qk" if mixer.qk_norm else "":
        yield f"{to}attn_{part}_norm.weight", weights[f"{at}mixer.{part}_norm.weight"]


def _paired(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """(H D, C) whose halves turn together -> rows whose neighbours do."""
    x = rows.reshape(heads, 2, -1, rows.shape[1])
    return x.swapaxes(1, 2).reshape(rows.shape)
