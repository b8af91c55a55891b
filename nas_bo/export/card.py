"""The model card: what a folder says about the model in it, for people. All of it comes from ``model.json``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_bo.export.folder import DRAWING
from nas_bo.wording import counted


def card(about: Mapping[str, Any], use: str, extra: str = "", transformers: bool = False) -> str:
    """Markdown.

    Args:
        about: the content of ``model.json`` that `nas-bo train` wrote; what is not in it is left out.
        use: how the files next to the card are used.
        extra: of this format, such as how it was checked.
        transformers: whether the folder is one that transformers loads.
    """
    searched = about.get("searched", {})
    title = searched.get("label") or about.get("architecture", "a decoder")
    parts = [_head(transformers), f"# {title}\n", _what(about), use, extra, f"![the architecture]({DRAWING})\n"]
    parts += [_figures(about), _samples(about), _trust(about), _provenance(about)]
    return "\n".join(part for part in parts if part)


def _head(transformers: bool) -> str:
    library = "transformers" if transformers else "nas_bo"
    return f"---\nlibrary_name: {library}\npipeline_tag: text-generation\ntags:\n- nas_bo\n- neural-architecture-search\n---\n"


def _what(about: Mapping[str, Any]) -> str:
    size, part = about.get("parameters"), about.get("part_of")
    of = f" of {counted(size, 'parameter')}" if size else ""
    found = "found by architecture search"
    if part:
        whole = f" ({counted(part['parameters'], 'parameter')})" if part.get("parameters") else ""
        found = f"the part of {part.get('name', 'a trained model')}{whole} that a search inside of it found"
    said = [f"A decoder-only language model{of}, {found}."]
    if "tokens" in about:
        text = about.get("corpus", {}).get("name", "text")
        trained = f"{'Trained on further, on' if part else 'Trained on'} {counted(about['tokens'], 'token')} of {text}."
        said.append(
            trained if about["tokens"] or not part else "Its weights are those of the whole, not trained any further."
        )
    said += _smaller(about)
    for name, value in about.get("values", {}).items():
        said.append(f"Held-out {name}: {value:.4f} {about.get('units', {}).get(name, '')}".rstrip() + ".")
    return " ".join(said) + "\n"


def _smaller(about: Mapping[str, Any]) -> list[str]:
    """What was done to the weights after training, in a sentence."""
    made = about.get("compression")
    steps = made.get("steps", []) if isinstance(made, Mapping) else []
    names = [str(step.get("name", "")) for step in steps[1:] if isinstance(step, Mapping)]
    return [f"Made smaller afterwards: {', '.join(names)}."] if names else []


def _figures(about: Mapping[str, Any]) -> str:
    searched = about.get("searched", {})
    if not searched.get("values"):
        return ""
    lines = ["## What the search measured\n", "| objective | value | interval | unit |", "| --- | --- | --- | --- |"]
    for name, value in searched["values"].items():
        ends = searched.get("intervals", {}).get(name)
        interval = f"{ends['low']:.5g} to {ends['high']:.5g} ({ends['level']:.0%})" if ends else ""
        lines.append(f"| {name} | {value:.5g} | {interval} | {searched.get('units', {}).get(name, '')} |")
    device = about.get("provenance", {}).get("device")
    where = f" Measured or predicted on: {device}." if device else ""
    return "\n".join(lines) + f"\n\nThese are of the search and its re-training, not of the weights here.{where}\n"


def _samples(about: Mapping[str, Any]) -> str:
    parts = [f"````\n{sample['text']}\n````\n" for sample in about.get("samples", ())]
    return "\n".join(["## Samples\n", *parts]) if parts else ""


def _trust(about: Mapping[str, object]) -> str:
    said = about.get("trust")
    return f"## How far the ranking of the search is to be trusted\n\n```\n{said}\n```\n" if said else ""


def _provenance(about: Mapping[str, Any]) -> str:
    rows = {
        "architecture": about.get("architecture"),
        "study": about.get("study"),
        "trial": about.get("searched", {}).get("trial"),
        "corpus": about.get("corpus", {}).get("sha256"),
        "tokenizer": about.get("tokenizer"),
        "settings": ", ".join(f"{k} {v:g}" for k, v in about.get("settings", {}).items()),
        "seed": about.get("seed"),
        "versions": ", ".join(f"{k} {v}" for k, v in about.get("provenance", {}).get("versions", {}).items()),
        "commit": about.get("provenance", {}).get("git", {}).get("commit"),
    }
    lines = [f"| {name} | {value} |" for name, value in rows.items() if value not in (None, "")]
    return "\n".join(["## How it was made\n", "| what | value |", "| --- | --- |", *lines]) + "\n" if lines else ""
