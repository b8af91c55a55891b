"""One architecture as an SVG: a row per run of equal layers, what mixes tokens, what follows it, and where the parameters are.

Text only: no matplotlib, no script, no network. Tokens enter at the top; the line at the left is the residual stream.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import groupby
from typing import Any

from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError
from nas_bo.model import counts
from nas_bo.model.blocks.block import Drawable, Drawn
from nas_bo.model.blocks.details import PLAIN
from nas_bo.model.blocks.skip import SKIP, absent
from nas_bo.model.blocks.table import block_of
from nas_bo.model.connections import skips, sources
from nas_bo.model.spec import DecoderSpec, LayerSpec, check
from nas_bo.report.digits import cut, figure
from nas_bo.wording import counted

EDGE = "#5b6776"  # embedding and head
OTHERS = ("#5c940d", "#a61e4d", "#0c8599", "#9c36b5", "#846358")  # of blocks that say no colour, by their names
INK, SOFT, LINE = "#1f2933", "#5b6776", "#dfe3e8"
WIDE, LEFT, BOX, ROW, TOP = 860, 64, 268, 46, 62  # pixels: the picture, the first box, a box, a row, the title
BARS = LEFT + 2 * BOX + 28
MOST_ROWS = 48  # runs of layers drawn; what lies between the first and the last is written


@dataclass(frozen=True)
class Block:
    """One box: its colour, its lines of text, and its share of the parameters. One without parameters may be dashed."""

    colour: str
    title: str
    detail: str
    parameters: int
    dashed: bool = False


def drawing(arch: Architecture | Node, *, vocab_size: int = 256, title: str = "", ignore: Collection[str] = ()) -> str:
    """The architecture as an SVG document.

    A decoder of `nas_bo.model` is drawn with the shapes and parameters of every block; any other architecture with its
    fields, layer by layer where it has a list of layers.

    Args:
        vocab_size: rows of the embedding, which count among the parameters.
        title: first line; default the short name of the decoder, else the id.
        ignore: top-level fields that are not part of the network.
    """
    try:
        spec = check(arch, ignore)
    except ModelError:
        return _plain(arch, title)
    return _decoder(spec, vocab_size, title or _name(arch, ignore))


def _name(arch: Architecture | Node, ignore: Collection[str]) -> str:
    from nas_bo.model.vocabulary import label

    return label(arch, ignore)


# ---- decoders ------------------------------------------------------------------------------------------------------


def _decoder(spec: DecoderSpec, vocab: int, title: str) -> str:
    total = counts.parameters(spec, vocab)
    tie = spec.details.tie_layers
    runs = [(layer, len(list(same))) for layer, same in groupby(spec.layers)]
    hidden = max(0, len(runs) - MOST_ROWS)
    shown = runs if not hidden else [*runs[: MOST_ROWS // 2], *runs[-MOST_ROWS // 2 :]]
    most = max(
        [vocab * spec.width, *(sum(b.parameters for b in _blocks(spec, layer)) * n // tie for layer, n in shown)]
    )
    parts = [
        _head(
            title,
            f"{figure(total)} parameters, width {spec.width}, {counted(len(spec.layers), 'layer')}, vocabulary {vocab}",
        ),
        _text(BARS, TOP - 10, "parameters, share of all", SOFT, 11),
    ]
    y = TOP
    positions = spec.details.max_length or 0
    placed = f", {positions} positions" if positions else ""
    embedding = Block(EDGE, "embedding", f"{vocab} tokens → {spec.width}{placed}", (vocab + positions) * spec.width)
    parts.append(_row(y, "", [embedding], 1, total, most))
    first = 0
    read = sources(spec.layers)
    at: dict[int, int] = {}  # layer -> the height of its row
    for k, (layer, n) in enumerate(shown):
        y += ROW
        if hidden and k == MOST_ROWS // 2:
            skipped = sum(m for _, m in runs[MOST_ROWS // 2 : -MOST_ROWS // 2])
            parts.append(
                _text(LEFT, y + 24, f"{counted(skipped, 'more layer')} in {counted(hidden, 'kind')} of rows", SOFT, 12)
            )
            first += skipped
            y += ROW
        where = str(first) if n == 1 else f"{first}–{first + n - 1}"
        boxes = _blocks(spec, layer)
        source = read[first]
        if source is not None:
            boxes[0] = replace(boxes[0], detail=f"{boxes[0].detail}, K and V of layer {source}")
        parts.append(_row(y, where, boxes, n, total, most, spec.parallel, tie))
        at.update(dict.fromkeys(range(first, first + n), y))
        first += n
    parts += [*_read(read, at), *_skipped(skips(len(spec.layers), spec.details), at)]
    y += ROW
    head = Block(EDGE, "head", f"norm, {spec.width} → {vocab} logits" + (", tied" if spec.tied else ""),
                 (0 if spec.tied else vocab * spec.width) + _norm(spec))  # fmt: skip
    parts.append(_row(y, "", [head], 1, total, most))
    notes = [f"{spec.norm} norm", f"{spec.position} positions", "biases" if spec.bias else "no biases"]
    plain = zip(spec.details._asdict().items(), PLAIN, strict=True)
    notes += [f"{name} {value}" for (name, value), default in plain if value != default and name != "max_length"]
    parts.append(
        _text(LEFT, y + ROW + 14, ", ".join(notes) + ("; mixer and MLP side by side" * spec.parallel), SOFT, 11)
    )
    stream = f'<path d="M{LEFT - 14} {TOP + 8}V{y + ROW - 12}" stroke="{SOFT}" stroke-width="2"/>'
    return _svg(y + ROW + 28, [stream, *parts], title)


def _read(read: Sequence[int | None], at: dict[int, int]) -> list[str]:
    """Lines between mixers, from keys and values to the layers that read them."""
    x, found = LEFT + BOX + 6, []
    for source in dict.fromkeys(one for one in read if one in at):
        rows = [at[index] for index, one in enumerate(read) if one == source and index in at and source is not None]
        if source is None or not rows:
            continue
        path = f"M{x - 6} {at[source] + 30}h6V{max(rows) + 8}" + "".join(
            f"M{x} {y + 8}h-6m4 -3l-4 3l4 3" for y in set(rows)
        )
        found.append(f'<path d="{path}" stroke="#1f5fbf" fill="none"><title>K and V of layer {source}</title></path>')
    return found


def _skipped(pairs: Sequence[tuple[int, int]], at: dict[int, int]) -> list[str]:
    """Dashed lines at the right of the boxes, from the layer whose output is kept to the one that is given it too."""
    drawn = dict.fromkeys((at[a], at[b]) for a, b in pairs if a in at and b in at and at[a] != at[b])
    found, x = [], LEFT + 2 * BOX + 12
    for number, (a, b) in enumerate(drawn):
        far = 14 - 10 * number / max(1, len(drawn) - 1)
        path = f"M{x} {a + 32}h{far:.1f}V{b + 8}h-{far:.1f}m4 -3l-4 3l4 3"
        found.append(
            f'<path d="{path}" stroke="{SOFT}" stroke-dasharray="4 3" fill="none"><title>long skip</title></path>'
        )
    return found


def _norm(spec: DecoderSpec) -> int:
    return counts.norm_parameters(spec.frame)


def _blocks(spec: DecoderSpec, layer: LayerSpec) -> list[Block]:
    """The mixer and the MLP of one layer; their counts sum up to the layer's, or to its share where layers are tied."""
    own = counts.layer_parameters(LayerSpec(layer.mixer, SKIP), spec.frame)[0]
    both = counts.layer_parameters(layer, spec.frame)[0]
    return [_box(layer.mixer, spec, own, "no mixer"), _box(layer.mlp, spec, both - own, "no MLP")]


def _box(one: Any, spec: DecoderSpec, own: int, nothing: str) -> Block:
    block = block_of(one)
    if isinstance(block, Drawable):
        drawn = block.drawn(one, spec.frame)
    else:
        values = one._asdict().items()
        drawn = Drawn(
            one.kind.replace("_", " "), ", ".join(f"{name} {value}" for name, value in values if name != "kind")
        )
    colour = drawn.colour or OTHERS[sum(map(ord, one.kind)) % len(OTHERS)]
    return Block(colour, nothing if absent(one) else drawn.title, drawn.detail, own, absent(one))


def _row(
    y: int, where: str, blocks: Sequence[Block], n: int, total: int, most: int, parallel: bool = False, tie: int = 1
) -> str:
    parts = [_text(8, y + 24, where, SOFT, 12)]
    sets = n // tie  # of weights
    often = f"  × {n}" + (f", tied by {tie}" if tie > 1 else "")
    for i, b in enumerate(blocks):
        x, wide = LEFT + i * (BOX + 12), BOX if len(blocks) > 1 else 2 * BOX + 12
        colour = b.colour
        dash = ' stroke-dasharray="4 3"' if b.dashed else ""
        parts.append(
            f'<rect x="{x}" y="{y + 2}" width="{wide}" height="{ROW - 10}" rx="5" fill="{colour}" fill-opacity="0.1" '
            f'stroke="{colour}"{dash}/>'
        )
        parts.append(_text(x + 10, y + 17, b.title + (often if n > 1 and i == 0 else ""), INK, 12, bold=True))
        parts.append(_text(x + 10, y + 32, b.detail, SOFT, 11))
        if i:
            link = f"M{LEFT - 14} {y + 2}H{x + 14}V{y + 4}" if parallel else f"M{x - 12} {y + 20}h10m-4 -3l4 3l-4 3"
            parts.append(f'<path d="{link}" stroke="{SOFT}" fill="none"/>')
    parts.append(f'<path d="M{LEFT - 14} {y + 20}h11m-4 -3l4 3l-4 3" stroke="{SOFT}" fill="none"/>')
    room, at = WIDE - BARS - 118, float(BARS)
    for b in blocks:
        long = b.parameters * sets / most * room
        parts.append(
            f'<rect x="{at:.1f}" y="{y + 11}" width="{long:.1f}" height="16" fill="{b.colour}" fill-opacity="0.8">'
            f"<title>{escape(b.title)}: {counted(b.parameters * sets, 'parameter')}</title></rect>"
        )
        at += long
    own = sum(b.parameters for b in blocks) * sets
    parts.append(_text(round(at) + 6, y + 23, f"{figure(own)}, {_percent(own / max(1, total))}", INK, 11))
    return "".join(parts)


# ---- any other architecture -----------------------------------------------------------------------------------------


def _plain(arch: Architecture | Node, title: str) -> str:
    """The fields of an architecture that is not a decoder of nas_bo."""
    tree = arch.tree if isinstance(arch, Architecture) else arch
    rows: list[tuple[str, str]] = []
    for name, value in tree.items():
        if isinstance(value, tuple):
            told = [_fields(v) for v in value]
            first = 0
            for text, same in groupby(told):
                n = len(list(same))
                rows.append((f"{name} {first}" if n == 1 else f"{name} {first}–{first + n - 1}", text))
                first += n
        else:
            rows.append((name, _fields(value)))
    hidden = max(0, len(rows) - MOST_ROWS)
    rows = rows[:MOST_ROWS] + ([("", f"{hidden} more")] if hidden else [])
    label = title or (f"architecture {arch.id[:8]}" if isinstance(arch, Architecture) else "architecture")
    parts = [_head(label, "not a decoder of nas_bo.model: its fields as they are")]
    for i, (name, text) in enumerate(rows):
        y = TOP + 30 * i
        parts.append(
            f'<rect x="180" y="{y}" width="{WIDE - 190}" height="24" rx="4" fill="#f6f8fa" stroke="{LINE}"/>'
            + _text(8, y + 16, cut(name, 26), SOFT, 12)
            + _text(190, y + 16, cut(text, 105), INK, 12)
        )
    return _svg(TOP + 30 * len(rows) + 8, parts, label)


def _fields(value: object) -> str:
    if isinstance(value, Node):
        inner = [f"{k} {_fields(v)}" for k, v in value.items() if k != "kind"]
        kind = value.get("kind")
        return " ".join(filter(None, [str(kind) if kind is not None else "", f"({', '.join(inner)})" * bool(inner)]))
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_fields, value)) + "]"
    return str(value)


# ---- marks ----------------------------------------------------------------------------------------------------------


def _head(title: str, below: str) -> str:
    return _text(8, 20, cut(title, 90), INK, 15, bold=True) + _text(8, 38, below, SOFT, 12)


def _text(x: int, y: int, text: str, colour: str, size: int, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" fill="{colour}" font-size="{size}"{weight}>{escape(text)}</text>' if text else ""


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "under 0.1 %"


def _svg(height: int, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {height}" width="{WIDE}" height="{height}" '
        f'role="img" font-family="system-ui,sans-serif"><title>{escape(title)}</title>'
        f'<rect width="{WIDE}" height="{height}" fill="#fff"/>{"".join(parts)}</svg>\n'
    )
