"""What a tokenizer's JSON does not say, or says in a way of its own: which tokens begin and end a text, how a dialogue is written, and
how a text is split before its pieces are merged.

transformers keeps the first two in files next to ``tokenizer.json``; llama.cpp keeps all of it in the GGUF file, where a split has a name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nas_bo.export.text import TOKENIZER, tokenizer_json
from nas_bo.foreign_document import text_of

CONFIG, GENERATION, TEMPLATE = "tokenizer_config.json", "generation_config.json", "chat_template.jinja"
BESIDE = (CONFIG, GENERATION, TEMPLATE)
ROLES = ("bos", "eos", "pad", "unk")
Json = Mapping[str, object]

_WORDS = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_SHORT = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def _byte_level(split: bool) -> dict[str, object]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": split}


def _first(*steps: dict[str, object]) -> dict[str, object]:
    return {"type": "Sequence", "pretokenizers": list(steps)}


def _split(digits: str) -> dict[str, object]:
    pattern = {"Regex": f"{_SHORT}|{_WORDS}|{digits}|{_REST}"}
    return {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}


SPLITS: Mapping[str, dict[str, object]] = {
    "gpt-2": _byte_level(True),
    "smollm": _first({"type": "Digits", "individual_digits": True}, _byte_level(True)),
    "llama-bpe": _first(_split(r"\p{N}{1,3}"), _byte_level(False)),
    "qwen2": _first(_split(r"\p{N}"), _byte_level(False)),
}
"""How texts are split, by the name that llama.cpp has for it (``tokenizer.ggml.pre``): as the package tokenizers writes it."""

ALSO = {
    "llama3": "llama-bpe",
    "llama-v3": "llama-bpe",
    "starcoder": "smollm",
    "refact": "smollm",
    "codeshell": "smollm",
}
"""Other names that llama.cpp has for the same."""


@dataclass(frozen=True)
class Roles:
    """Tokens with a meaning.

    Attributes:
        names: of "bos", "eos", "pad" and "unk", what the tokenizer has -> the token.
        ids: the same -> its id.
        ends: ids after any of which a text has ended.
        template: how a dialogue is written, in Jinja; "" where nobody says.
    """

    names: Mapping[str, str]
    ids: Mapping[str, int]
    ends: tuple[int, ...] = ()
    template: str = ""


def files_of(tokenizer: Path | None) -> dict[str, bytes]:
    """A tokenizer for another folder: its JSON, and what lies next to it where that is about it; {} where bytes are the tokens."""
    if tokenizer is None:
        return {}
    found = {TOKENIZER: tokenizer_json(tokenizer).encode()}
    if tokenizer.name == TOKENIZER:
        found |= {name: path.read_bytes() for name in BESIDE if (path := tokenizer.with_name(name)).is_file()}
    return found


def roles(tokenizer: Path | None) -> Roles:
    """What the files next to a tokenizer say; nothing where they are not there, or name tokens that it does not have."""
    if tokenizer is None or tokenizer.name != TOKENIZER:
        return Roles({}, {})
    about = json.loads(tokenizer_json(tokenizer))
    there = {str(one["content"]): int(one["id"]) for one in about.get("added_tokens", ())}
    vocabulary = about["model"].get("vocab")
    if isinstance(vocabulary, dict):
        there = {**vocabulary, **there}
    said, generation = (_read(tokenizer.with_name(name)) for name in (CONFIG, GENERATION))
    names: dict[str, str] = {}
    for role in ROLES:
        token = said.get(f"{role}_token")
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str) and token in there:
            names[role] = token
    ids = {role: there[token] for role, token in names.items()}
    ends = generation.get("eos_token_id")
    known = {*there.values()}
    listed = [one for one in (ends if isinstance(ends, list) else [ends]) if isinstance(one, int) and one in known]
    own = [ids["eos"]] if "eos" in ids else []
    return Roles(names, ids, tuple(dict.fromkeys([*own, *listed])), _template(tokenizer, said))


def _template(tokenizer: Path, said: Json) -> str:
    path = tokenizer.with_name(TEMPLATE)
    if path.is_file():
        return text_of(path)
    found = said.get("chat_template")
    if isinstance(found, list):  # several with names
        found = next((one.get("template") for one in found if one.get("name") == "default"), "")
    return found if isinstance(found, str) else ""


def _read(path: Path) -> Json:
    try:
        found = json.loads(text_of(path)) if path.is_file() else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def split_of(about: Json) -> str | None:
    """The name in llama.cpp of how a tokenizer splits texts; None where `SPLITS` has none that is alike.

    Args:
        about: its JSON.
    """
    model = about["model"]
    if isinstance(model, dict) and not model.get("merges"):
        return "gpt-2"  # nothing is merged, so it does not matter
    wanted = _plain(about.get("pre_tokenizer"))
    return next((name for name, split in SPLITS.items() if _plain(split) == wanted), None)


def _plain(split: object) -> object:
    """A split without what changes no token: offsets, and spaces that are not added."""
    if isinstance(split, dict):
        steps = split.get("pretokenizers")
        if isinstance(steps, list) and len(steps) == 1:
            return _plain(steps[0])
        return {name: _plain(value) for name, value in split.items() if name != "trim_offsets"}
    return [_plain(one) for one in split] if isinstance(split, list) else split
