"""Softmax attention (Vaswani et al. 2017, arXiv 1706.03762) with shared key/value heads (Ainslie et al. 2023, arXiv
2305.13245), rotary positions (Su et al. 2021, arXiv 2104.09864) and sliding windows (Beltagy et al. 2020, arXiv 2004.05150).

What models of other people have in addition: rms norms of queries and keys, of each head (Qwen3: arXiv 2505.09388) or of all heads together
(OLMo 2: arXiv 2501.00656); biases of q, k and v alone (Qwen2: arXiv 2407.10671); positions that turn a share of each head (GPT-NeoX:
arXiv 2204.06745); sinks, a logit per head that takes part of the softmax and adds nothing (gpt-oss: arXiv 2508.10925).

With `share_kv` a layer has queries alone and reads the keys and values of an earlier one (Brandon et al. 2024, arXiv 2405.12981;
see `nas_bo.model.connections`)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from nas_bo.architecture import Primitive
from nas_bo.errors import ModelError, near
from nas_bo.model.blocks.block import Call, Drawn, Frame, Row, Shared, Slot, StockPart, linear, matrix, size_of
from nas_bo.model.blocks.cuts import Cut, Piece, out, plain, rows
from nas_bo.model.blocks.details import Default
from nas_bo.wording import counted

if TYPE_CHECKING:
    from torch import nn


class AttentionSpec(NamedTuple):
    kind: str
    heads: int
    kv_heads: int
    head_dim: int
    window: int | None
    qk_norm: str | None = None
    qkv_bias: bool | None = None
    out_bias: bool | None = None
    rotary_share: float = 1.0
    sinks: bool = False
    value_dim: int | None = None
    share_kv: bool = False

    @property
    def turned(self) -> int:
        """Values of each head that rotary positions turn."""
        return int(self.rotary_share * self.head_dim + 1e-9)

    @property
    def values(self) -> int:
        """The dimension of the values of a head."""
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Queries, keys and values of a token."""
        return self.heads * self.head_dim, self.kv_heads * self.head_dim, self.kv_heads * self.values

    @property
    def made(self) -> tuple[int, int, int]:
        """Of these, those that it computes itself: with keys and values of an earlier layer, queries alone."""
        return (self.sizes[0], 0, 0) if self.share_kv else self.sizes

    @property
    def plain(self) -> bool:
        """Whether queries and keys are turned as they come and values are as large as they."""
        return self.qk_norm is None and self.rotary_share == 1 and self.value_dim is None

    @property
    def fused(self) -> bool:
        """Whether one kernel does scores, softmax and sum."""
        return not self.sinks and self.value_dim is None

    def gains(self) -> tuple[int, int]:
        """Sizes of the norms of queries and of keys."""
        whole = self.sizes[:2] if self.qk_norm == "whole" else (self.head_dim, self.head_dim)
        return (whole[0] if self.qk_norm else 0, whole[1] if self.qk_norm and not self.share_kv else 0)

    def biases(self, frame: Frame) -> tuple[bool, bool]:
        """Whether the matrices into and out of the block have biases."""
        into, out = (frame.bias if said is None else said for said in (self.qkv_bias, self.out_bias))
        return into, out


QK_NORMS = (None, "head", "whole")


class AttentionBlock:
    kind = "attention"
    slots: tuple[Slot, ...] = ("mixer",)
    fields: Mapping[str, Default] = {
        "heads": ...,
        "kv_group": 1,
        "head_dim": None,
        "window": None,
        "qk_norm": None,
        "qkv_bias": None,
        "out_bias": None,
        "rotary_share": 1.0,
        "sinks": False,
        "value_dim": None,
        "share_kv": False,
    }
    initial: Mapping[str, str] = {"sinks": "zeros"}
    caches_tokens = True
    Spec = AttentionSpec

    def check(self, fields: Mapping[str, object], frame: Frame) -> AttentionSpec:
        heads = size_of(fields, "heads", self.kind)
        head_dim = head_dim_of(fields, heads, frame, self.kind)
        share = fields["rotary_share"]
        if share == 1 and frame.position == "rotary" and head_dim % 2:
            raise ModelError(
                f"attention has head_dim={head_dim} at width={frame.width}, and rotary positions turn pairs of values; "
                'choose heads or head_dim so that it is even, or position="none"'
            )
        group = size_of(fields, "kv_group", self.kind)
        if heads % group:
            raise ModelError(
                f"attention with kv_group={group} does not divide heads={heads}; choose a divisor of heads"
            )
        window = None if fields["window"] is None else size_of(fields, "window", self.kind)
        return self._finer(AttentionSpec(self.kind, heads, heads // group, head_dim, window), fields, frame)

    def _finer(self, spec: AttentionSpec, fields: Mapping[str, Any], frame: Frame) -> AttentionSpec:
        for name, allowed in (
            ("qk_norm", QK_NORMS),
            ("qkv_bias", (None, False, True)),
            ("out_bias", (None, False, True)),
            ("sinks", (False, True)),
            ("share_kv", (False, True)),
        ):
            value = fields[name]
            if not any(value.__class__ is one.__class__ and value == one for one in allowed):
                meant = near(value, [one for one in allowed if isinstance(one, str)])
                raise ModelError(f"attention has {name}={value!r}{meant}; it is one of {', '.join(map(repr, allowed))}")
        share = fields["rotary_share"]
        if share.__class__ not in (int, float) or not 0 <= share <= 1:
            raise ModelError(
                f"attention has rotary_share={share!r}; it is the part of each head that rotary positions turn, from 0 to 1"
            )
        values = None if fields["value_dim"] is None else size_of(fields, "value_dim", self.kind)
        spec = spec._replace(
            qk_norm=fields["qk_norm"],
            qkv_bias=fields["qkv_bias"],
            out_bias=fields["out_bias"],
            rotary_share=float(share) if frame.position == "rotary" else 1.0,  # where nothing turns, no part does
            sinks=fields["sinks"],
            value_dim=None if values == spec.head_dim else values,
            share_kv=fields["share_kv"],
        )
        if spec.rotary_share not in (0, 1) and (spec.turned % 2 or not spec.turned):
            raise ModelError(
                f"attention has rotary_share={share:g} of head_dim={spec.head_dim}, which is {counted(spec.turned, 'value')}, and rotary positions "
                "turn pairs; choose a share that leaves an even number of at least 2, or 0 for none"
            )
        return spec

    def parameters(self, spec: AttentionSpec, frame: Frame) -> int:
        into, out = spec.biases(frame)
        matrices = linear(frame.width, sum(spec.made), into) + linear(spec.heads * spec.values, frame.width, out)
        return matrices + sum(spec.gains()) + (spec.heads if spec.sinks else 0)

    def operations(self, spec: AttentionSpec, frame: Frame, call: Call) -> Iterator[Row]:
        new, context, window = call.new, call.context, spec.window
        q, k, v = spec.sizes
        given, (into, out) = spec.heads * spec.values, spec.biases(frame)
        seen = context if window is None or call.phase == "prefill" else min(context, window)
        own = not spec.share_kv
        cached = self._kept(spec, context) if call.phase == "decode" else 0
        terms = spec.heads * new * (context if new > 1 or window is None else min(context, window))
        yield matrix("qkv" if own else "q", frame.width, sum(spec.made), into, new)
        if spec.qk_norm:
            yield Row("qk_norm", 0, sum(spec.gains()), 2 * new * sum(spec.made[:2]), 12 if own else 6)
        if self._turned(spec, frame):
            turned = spec.turned * (spec.heads + spec.kv_heads * own)
            yield Row("rotary", 0, 0, 4 * new * turned, 3 if spec.plain else 6)
        moved = new * (q + given) + seen * (k + v)
        scores = 2 * new * seen * spec.heads * (spec.head_dim + spec.values)  # and their sum of values
        if spec.sinks:  # no fused kernel
            yield Row("attention", scores, spec.heads, moved + 6 * spec.heads * new * seen, 7, cached, terms)
        else:
            yield Row("attention", scores, 0, moved, 2, cached, terms)
        yield matrix("out", given, frame.width, out, new)

    def state_values(self, spec: AttentionSpec, frame: Frame, context: int) -> int:
        return 0 if spec.share_kv else self._kept(spec, context)

    def _kept(self, spec: AttentionSpec, context: int) -> int:
        kept = context if spec.window is None else min(context, spec.window)
        return (spec.sizes[1] + spec.sizes[2]) * kept

    def peak_values(self, spec: AttentionSpec, frame: Frame, call: Call) -> int:
        tokens = call.batch * call.new
        a, k, v = (tokens * size for size in spec.made)
        given = tokens * spec.heads * spec.values
        packed, turned = a + k + v, (a + k) if self._turned(spec, frame) or spec.qk_norm else 0
        passing = 3 * turned if spec.rotary_share == 1 else 2 * turned
        joined = 0
        if spec.window is not None:
            past = min(spec.window, call.context - 1) if call.new == 1 else 0
            joined = call.batch * (past + call.new) * (spec.sizes[1] + spec.sizes[2])
        scores = 3 * call.batch * spec.heads * call.new * self._keys(spec, call) if spec.sinks else 0
        if spec.share_kv:
            return max(packed + passing, packed + scores + given + tokens * frame.width)
        return max(packed + passing, packed + turned + joined + scores + given + tokens * frame.width)

    def _keys(self, spec: AttentionSpec, call: Call) -> int:
        return call.context if spec.window is None or call.new > 1 else min(call.context, spec.window)

    def saved_values(self, spec: AttentionSpec, frame: Frame, batch: int, length: int) -> int:
        tokens = batch * length
        a, k, v = (tokens * size for size in spec.made)
        changed = (a + k) * ((spec.turned > 0 and frame.position == "rotary") + 2 * bool(spec.qk_norm))
        if spec.share_kv and not spec.qk_norm:
            changed = 0  # queries before they are turned are not needed
        each = 1 if spec.fused else length  # a kernel keeps one number per query, matrix products all their scores
        scores = tokens * spec.heads * each
        return a + k + v + changed + tokens * spec.heads * spec.values + scores

    def undone_values(self, spec: AttentionSpec, frame: Frame, batch: int, length: int) -> int:
        scores = 0 if spec.fused else 2 * batch * length * length * spec.heads
        return 2 * batch * length * sum(spec.sizes) + scores

    def _turned(self, spec: AttentionSpec, frame: Frame) -> bool:
        return frame.position == "rotary" and spec.turned > 0

    def shared(self, spec: AttentionSpec, frame: Frame) -> Shared:
        turned = self._turned(spec, frame)
        a, k, v = spec.made
        changed = a + k if (turned or spec.qk_norm) and not spec.share_kv else 0
        return Shared(spec.turned if turned else None, spec.window, a + k + v + k + v + changed)

    def borrows(self, spec: AttentionSpec) -> bool:
        return spec.share_kv

    def shape(self, spec: AttentionSpec) -> dict[str, Any]:
        return {
            "kv_heads": spec.kv_heads,
            "head_dim": spec.head_dim,
            "value_dim": spec.values,
            "window": spec.window,
            "rotary_share": spec.rotary_share,
        }

    def lender(self, spec: AttentionSpec) -> AttentionSpec:
        return spec._replace(share_kv=False)

    def lent_values(self, spec: AttentionSpec, frame: Frame, cached: bool) -> int:
        q, k, v = spec.sizes
        if cached:  # views of the cache, but for windows, whose prompt is longer than what is kept
            return 0 if spec.window is None else k + v
        changed = self._turned(spec, frame) or spec.qk_norm is not None
        return q + k + v + changed * (q + k if spec.plain else k)  # the storages that they are views of

    def successor(self, spec: AttentionSpec) -> Mapping[str, Primitive]:
        return {"heads": spec.heads, "head_dim": spec.head_dim}

    def succeeds(self, spec: AttentionSpec, trained: object) -> AttentionSpec | None:
        """With another window."""
        if not isinstance(trained, AttentionSpec) or spec.window == trained.window:
            return None
        return trained._replace(window=spec.window)

    def joined(self, spec: AttentionSpec, length: int) -> AttentionSpec:
        return spec if spec.window is not None else spec._replace(window=length)  # nothing falls out of it

    def narrowed(self, fields: Mapping[str, Any], width: int, narrow: int) -> dict[str, Any]:
        dim, share = narrow_head(fields, width, narrow), fields.get("rotary_share", 1)
        while share and (int(share * dim + 1e-9) % 2 or share * dim < 2):
            dim += 2
        made = {**fields, "head_dim": dim}
        if fields.get("value_dim"):
            made["value_dim"] = narrow_head({**fields, "head_dim": fields["value_dim"]}, width, narrow)
        return made

    def widened(self, fields: Mapping[str, Any], width: int, wide: int) -> dict[str, object]:
        return widened_heads(fields, width, wide, fields.get("kv_group") or 1)

    def slices(self, spec: AttentionSpec, frame: Frame, bank: str, prefix: str) -> Iterator[Cut]:
        """Heads of which a share is turned have weights of their own for each `head_dim`, since no part of them is that of a smaller
        head."""
        into, bias = spec.biases(frame)
        rotary = self._turned(spec, frame) and spec.rotary_share == 1
        dims = (2, spec.head_dim // 2) if rotary else (spec.head_dim,)
        values = dims
        if spec.rotary_share not in (0, 1):
            bank = f"{bank}/turned{spec.turned}of{spec.head_dim}"
        elif not rotary:
            bank = f"{bank}/unturned"
        bank += f"/qk_norm={spec.qk_norm}" if spec.qk_norm else ""
        if spec.value_dim is not None:
            bank, values = f"{bank}/value_dim", (spec.value_dim,)
        group = spec.heads // spec.kv_heads  # a shared key is that of the first query head of its group
        parts = {"q": (spec.heads, *dims), "k": (spec.kv_heads, *dims), "v": (spec.kv_heads, *values)}
        turned = ("q", "k") if rotary else ()
        if spec.share_kv:
            parts = {"q": parts["q"]}
        yield from rows(
            f"{prefix}{'q' if spec.share_kv else 'qkv'}",
            bank,
            parts,
            frame.width,
            into,
            turned,
            {"k": group, "v": group},
        )
        yield from out(f"{prefix}out", bank, frame.width, (spec.heads, *values), bias)
        for part in [one for one in ("q", "k") if spec.qk_norm and one in parts]:
            sizes = parts[part] if spec.qk_norm == "whole" else dims
            spread = len(sizes) - 1 if rotary else None
            step = group if part == "k" and spec.qk_norm == "whole" else 1
            yield Cut(
                f"{prefix}{part}_norm.weight",
                (Piece(f"{bank}/{part}_gain", sizes, None, spread, step),),
                ((prod(sizes),),),
            )
        if spec.sinks:
            yield plain(f"{prefix}sinks", f"{bank}/sinks", (spec.heads,))

    def apart(self, spec: AttentionSpec, frame: Frame) -> Mapping[str, object]:
        return {**spec._asdict(), "kv_group": spec.heads // spec.kv_heads}

    def units(self, spec: AttentionSpec, frame: Frame) -> Mapping[str, int]:
        """Heads that share keys and values go together; those that read keys of another layer stay as many as that has."""
        return {} if spec.share_kv else {"heads": spec.kv_heads}

    def with_units(self, spec: AttentionSpec, frame: Frame, kind: str, count: int) -> Mapping[str, Primitive]:
        group = spec.heads // spec.kv_heads
        said = {name: value for name, value in spec._asdict().items() if name in self.fields}
        return {**said, "heads": count * group, "kv_group": group}

    def label(self, spec: AttentionSpec, frame: Frame) -> str:
        group = f"/{spec.heads // spec.kv_heads}" if spec.kv_heads != spec.heads else ""
        more = {None: "", "head": "n", "whole": "N"}[spec.qk_norm] + ("s" if spec.sinks else "")
        more += f"r{spec.turned}" if spec.rotary_share != 1 else ""
        more += f"v{spec.value_dim}" if spec.value_dim else ""
        more += "k" if spec.share_kv else ""
        return f"A{spec.heads}{group}" + (f"w{spec.window}" if spec.window else "") + more

    def drawn(self, spec: AttentionSpec, frame: Frame) -> Drawn:
        shared = "" if spec.kv_heads == spec.heads else f", {counted(spec.kv_heads, 'KV head')}"
        window = f", last {counted(spec.window, 'token')}" if spec.window else ""
        norm = {None: "", "head": ", norms of q and k", "whole": ", norms of all q and k"}[spec.qk_norm]
        share = f", {spec.turned} of {spec.head_dim} turned" if spec.rotary_share != 1 else ""
        values = f", values of {spec.value_dim}" if spec.value_dim else ""
        more = values + share + norm + ", sinks" * spec.sinks
        return Drawn("attention", f"{counted(spec.heads, 'head')} of {spec.head_dim}{shared}{window}{more}", "#1f5fbf")

    def stock_part(self, spec: AttentionSpec, frame: Frame) -> StockPart:
        return StockPart(attention=spec)

    def module(self, spec: AttentionSpec, frame: Frame) -> nn.Module:
        from nas_bo.model.layers.attention import Attention

        return Attention(spec, frame)


def head_dim_of(fields: Mapping[str, object], heads: int, frame: Frame, kind: str) -> int:
    """The field `head_dim`, or width / heads (raises ModelError where that is not an integer)."""
    if fields["head_dim"] is not None:
        return size_of(fields, "head_dim", kind)
    if frame.width % heads:
        raise ModelError(
            f"{kind} with heads={heads} does not divide width={frame.width}; choose heads that divide it or give head_dim"
        )
    return frame.width // heads


def narrow_head(fields: Mapping[str, Any], width: int, narrow: int) -> int:
    """The head dimension at another width, rounded up to an even number."""
    wide: float = fields.get("head_dim") or width / fields["heads"]
    return max(2, 2 * math.ceil(wide * narrow / width / 2))


def widened_heads(fields: Mapping[str, Any], width: int, wide: int, group: int = 1) -> dict[str, object]:
    """The fields with as many more heads as the width grows, rounded to whole groups; each head keeps its dimension."""
    heads = group * max(1, round(fields["heads"] * wide / width / group))
    dim = fields.get("head_dim") or width // fields["heads"]
    return {**fields, "heads": heads, "head_dim": dim}


BLOCK = AttentionBlock()
