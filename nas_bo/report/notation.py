"""The legend under a table: what ``d96 C4.x3g 3*A4/2 -`` means, only the notations that occur there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from nas_bo.errors import NasBoError
from nas_bo.trial import ObjectiveSpec, Trial
from nas_bo.wording import counted

WORD = re.compile(
    r"(?:(?P<run>\d+)\*)?"
    r"(?P<mixer>A(?P<heads>\d+)(?:/(?P<group>\d+))?(?:w(?P<window>\d+))?|L(?P<linear>\d+)|C(?P<kernel>\d+)|-)?"
    r"(?P<dot>\.)?"
    r"(?P<mlp>(?:m(?P<experts>\d+)\.(?P<active>\d+))?x(?P<ratio>[\d.e+-]+)(?P<gated>g)?|-)?"
)


def legend(trials: Iterable[Trial], labels: Mapping[str, str]) -> str:
    """One line; "" where no architecture has the short name of a decoder of ours."""
    trials = list(trials)
    known = [t for t in trials if _ours(t, labels.get(t.architecture.id, ""))]
    said = explained(labels[t.architecture.id] for t in known)
    return "; ".join(filter(None, (said, *_others(known))))


def bounds(columns: Iterable[ObjectiveSpec]) -> str:
    """Which columns are not times but roofline bounds, and what that means; "" where none is."""
    names = [c.name for c in columns if c.unit.endswith("roofline bound")]
    if not names:
        return ""
    verb = "is a roofline bound" if len(names) == 1 else "are roofline bounds"
    return (
        f"{', '.join(names)} {verb}: what arithmetic and memory traffic alone allow on the device, not a time; right in rank, not in scale, "
        "and not to be compared with milliseconds"
    )


def explained(names: Iterable[str]) -> str:
    """The legend of short names that the decoder gave."""
    found: dict[str, str] = {}
    for name in names:
        words = name.split()
        found.setdefault("d", f"{words[0]}: width {words[0][1:]}")
        if "..." in words:
            found.setdefault("...", "...: more layers, too many to name")
            words = words[: words.index("...")]
        for i, word in enumerate(words[1:], start=2):
            last = i == len(words) and i > 2 and "." not in re.sub(r"m\d+\.|x[\d.]+", "", word)
            _word(word, last and "*" not in word, found)
    order = ("d", "A", "/", "w", "L", "C", "no mixer", "x", "g", "m", "-", ".", "*", "...")
    return "; ".join(found[key] for key in order if key in found)


CONNECTED = {"u": "long skips", "t": "successive layers with the same weights"}
AFTER = {
    "b": "bits of each weight after training",
    "v": "bits of each cached key and value",
    "z": "share of the weights set to zero after training",
    "p": "share of the channels of MLPs taken out after training",
}


def _others(trials: Iterable[Trial]) -> list[str]:
    """What no pattern here explains, in the words of a block's drawing, once a kind; how layers are connected, and what is done
    after training."""
    from nas_bo.model.blocks.block import Drawable, Labelled
    from nas_bo.model.blocks.table import block_of
    from nas_bo.model.connections import borrowing
    from nas_bo.model.spec import check
    from nas_bo.model.vocabulary import label

    found: dict[str, str] = {}
    for trial in trials:
        decoder = check(trial.architecture, ignore=trial.architecture.flat)
        head = re.match(r"d\d+((?: (?:u|t\d+|[bvzp][\d.:,]+))*) ", label(trial.architecture) + " ")
        for word in head[1].split() if head else ():
            if word[0] in CONNECTED:
                found.setdefault(word[0], f"{word}: {f'{word[1:]} ' if word[1:] else ''}{CONNECTED[word[0]]}")
                continue
            each = ", of the embedding and of each layer" if word[0] == "b" else ", of each layer"
            found.setdefault(word[0] + ":" * (":" in word), f"{word}: {AFTER[word[0]]}{each * (':' in word)}")
        for spec in (layer.mixer for layer in decoder.layers):
            block = block_of(spec)
            if not isinstance(block, Labelled) or not isinstance(block, Drawable):
                continue
            short = block.label(spec, decoder.frame)
            if WORD.fullmatch(short) is None:
                said = [*filter(None, block.drawn(spec, decoder.frame)[:2])]
                said += ["with keys and values of an earlier layer"] if borrowing(spec) else []
                found.setdefault(re.sub(r"\d+", "", short), f"{short}: {', '.join(said)}")
    return list(found.values())


def _ours(trial: Trial, label: str) -> str:
    """The label where it is the decoder's own name of the architecture."""
    from nas_bo.model.vocabulary import label as named

    if not re.match(r"d\d+ ", label):
        return ""
    try:
        return label if named(trial.architecture) == label else ""
    except NasBoError:
        return ""


def _word(word: str, last: bool, found: dict[str, str]) -> None:
    """Add what is new in one word; `last` is the MLP of every layer."""
    if last and word == "-":
        found.setdefault("-", "-: no MLP")
        return
    match = WORD.fullmatch(word)
    if match is None:
        return
    part = match.groupdict()
    if part["run"]:
        found.setdefault("*", f"{word}: {part['run']} such layers in a row")
    if part["heads"]:
        found.setdefault("A", f"A{part['heads']}: attention with {counted(int(part['heads']), 'head')}")
    if part["group"]:
        found.setdefault("/", f"A{part['heads']}/{part['group']}: {part['group']} query heads share a key/value head")
    if part["window"]:
        found.setdefault("w", f"w{part['window']}: which sees the last {counted(int(part['window']), 'token')}")
    if part["linear"]:
        found.setdefault("L", f"L{part['linear']}: linear attention with {counted(int(part['linear']), 'head')}")
    if part["kernel"]:
        found.setdefault(
            "C", f"C{part['kernel']}: gated convolution over the last {counted(int(part['kernel']), 'token')}"
        )
    if part["mixer"] == "-":
        found.setdefault("no mixer", "- at the front of a layer: nothing mixes tokens")
    if part["dot"]:
        found.setdefault(".", "after a dot: the MLP of that layer alone")
        if part["mlp"] == "-":
            found.setdefault("-", "-: no MLP")
    if part["ratio"]:
        wide = {"1": "of the model's width", "2": "of twice the width"}
        of = "MLP " + wide.get(part["ratio"], f"of {part['ratio']} times the width")
        if part["experts"]:
            mixture = f"m{part['experts']}.{part['active']}: mixture of {counted(int(part['experts']), 'expert')}, {part['active']} active for a token"
            found.setdefault("m", mixture)
        found.setdefault("x", f"x{part['ratio']}: {of}")
        if part["gated"]:
            found.setdefault("g", "g: gated")
