"""Docstrings, comments, messages and pages in plain international English: no word of the list below."""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOT_A = "there|longer|better|more|less|worse|other|larger|smaller|slower|faster|different|further|such"
STRINGS = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}

# what is searched for, what to write instead, and why
WORDS = (
    (r"\banew\b", "again, from the start", "old-fashioned"),
    (r"\bdear(er|est)?\b", "expensive", "understood as 'loved'"),
    (rf"(?<!there )\b(is|are|was|were) no (?!({NOT_A})\b)", "is not a ...", "negate the verb, as the field does"),
    (r"\bshines?\b", "is not as good", "a figure of speech"),
    (r"(^|[.;:,] |\band |\bwhile )who (wants|tells|measures|takes|asks|trains|waits)\b", "to do it ...", "a translated relative clause"),
    (r"\btold\b(?!:)", "reported, given, described", "the reader does not know by whom"),
    (r"\bof (itself|themselves|oneself)\b", "about itself, by itself", "translated"),
    (r"\bthat there (is|are)\b(?! (?:no|nothing|too|\d))", "leave it out", "says nothing"),
    (r"\b(?<!merge )ours\b(?![.:])", "of nas_bo", "who are we?"),
    (r"\bfor ever\b", "forever, without end", "one word"),
    (r"\b(stands?|standing|stood)\b(?! (for|in for)\b)(?<!as it stands)(?<!as they stand)", "is, is written", "translated; text does not stand"),
    (r"\bbeside\b", "next to, with, in addition to, during", "means 'at the side of' only, and is read as 'besides'"),
    (r"\bspeaks? of\b", "describes, is for", "files and models do not speak"),
    (r"\b(says?|said|say) (nothing |little |much |more )?of\b", "says about", "translated"),
    (r"\bkn(ow|ows|own|ew) (nothing |little |more )?of\b", "knows about", "'to know of' is to have heard of"),
    (r"\bmend(s|ed|ing)?\b", "fix, correct, repair", "clothes are mended"),
    (r"(?<!what )\b(goes|go|went|going|gone) on\b(?! the\b)", "continues, resumes", "the field resumes a search"),
    (r"(?<!forward )(?<!one )\bpass(es|ed|ing)? over\b", "skipped, ignored", "means both 'skip' and 'go through'"),
    (r"\bto the (same |last )?bits?\b", "bit for bit, bitwise", "the field's word"),
    (r"\bbe had\b", "is available", "translated"),
    (r"\ball the same\b", "anyway", "read as 'all equal'"),
    (r"\bone's own\b", "your own", "stiff"),
    (r"\bin the place of\b", "instead of, in place of", "translated"),
    (r"\b(shall|ought|amongst|whilst|upon|thus|hence|whence|wherein|thereof|thereby|nought|thrice)\b", "will, should, among, while, on, so, three times", "old-fashioned"),
    (r"\b(is|are|was|were|be|been) said\b", "is reported, the message says", "the reader does not know by whom"),
    (r"\b(goes|went|gone|go) by\b", "uses, follows", "a figure of speech"),
    (r"\bnow and then\b", "from time to time", "idiom"),
    (r"\btaught\b", "fitted, trained", "models are fitted to data"),
    (r"\bbears?\b(?! in mind)", "supports, allows, has", "translated"),
    (r"\bwhat lacks\b", "what is missing", "translated"),
    (r"\b(take|takes|taking|taken|took) away\b", "remove, prune", "the field prunes and removes"),
    (r"\bsome (two|three|four|five|six|seven|eight|nine|ten|\d[\d,]*)\b", "about ...", "read as 'a few of'"),
    (r"\btrains? (it|them) on\b(?= ?[.,;:]|$)", "continue the training", "translated"),
)  # fmt: skip


def _plain(text: str) -> str:
    """Without what is code in it: fields of an f-string, what is in backticks, links' targets, words with dots or underscores."""
    text = re.sub(r"`+[^`]*`+", "CODE", text)
    for _ in range(3):
        text = re.sub(r"\{[^{}]*\}", "VALUE", text)
    return " ".join(re.sub(r"\]\([^)]*\)", "]", text).replace("#:", "").split())


def _of_python(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every string with more than one word and every block of comments."""
    comment: list[str] = []
    begin = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            if not comment or token.start[0] != last + 1:
                if comment:
                    yield begin, _plain(" ".join(comment))
                comment, begin = [], token.start[0]
            comment.append(token.string.lstrip("# "))
            last = token.start[0]
        elif token.type in STRINGS and " " in token.string:
            yield token.start[0], _plain(token.string.strip("rbfRBF\"'"))
    if comment:
        yield begin, _plain(" ".join(comment))


def _of_markdown(text: str) -> Iterator[tuple[int, str]]:
    """(line, text) of every paragraph, and of the comments in its code."""
    fenced, begin, paragraph = False, 1, []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.lstrip().startswith("```"):
            fenced, line = not fenced, ""
        if fenced:
            line = line.partition("# ")[2]
            if line:
                yield number, _plain(line)
        elif line.strip():
            begin = begin if paragraph else number
            paragraph.append(line)
        elif paragraph:
            yield begin, _plain(" ".join(paragraph))
            paragraph = []


def _files() -> list[Path]:
    pages = [path for path in (ROOT / "docs").rglob("*.md") if "_build" not in path.parts]
    code = [path for folder in ("nas_bo", "examples", "optunahub") for path in (ROOT / folder).rglob("*.py")]
    return sorted([*ROOT.glob("*.md"), *pages, *code])


def found(path: Path) -> list[str]:
    """Every word of the list in a file, a line each."""
    text = path.read_text()
    parts = list((_of_markdown if path.suffix == ".md" else _of_python)(text))
    whole = "\n".join(said for _, said in parts)  # a line each, so that a file is searched once for each word
    hits = []
    for pattern, instead, why in WORDS:
        for hit in re.finditer(pattern, whole, re.IGNORECASE | re.MULTILINE):
            line = parts[whole.count("\n", 0, hit.start())][0]
            around = whole[max(0, hit.start() - 40) : hit.end() + 40]
            hits.append(f"{path.relative_to(ROOT)}:{line}: {hit.group(0)!r} ({why}); write: {instead} | {around}")
    return hits


def test_no_word_of_the_list_is_used():
    hits = [line for path in _files() for line in found(path)]
    assert not hits, "\n".join([f"{len(hits)} words that readers in other countries stumble over:", *hits])
