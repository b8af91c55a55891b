"""A number agrees with its noun: messages never say "1 trials" or "trial(s)"."""

from __future__ import annotations

import ast
import re

from nas_bo.wording import counted, plural
from tests.sources import ROOT, trees

NOUNS = [
    "anchors", "arch", "architectures", "arms", "attempts", "baselines", "blocks", "bytes", "candidates", "channels",
    "characters", "choices", "clocks", "columns", "combinations", "constraints", "contexts", "cores", "corpora",
    "decisions", "devices", "dimensions", "directions", "draws", "entries", "epochs", "errors", "evaluations",
    "experiments", "experts", "features", "fields", "files", "folders", "fronts", "generations", "groups", "heads",
    "hours", "iterations", "items", "kinds", "layers", "limits", "lines", "logits", "looks", "machines", "matrices",
    "measurements", "members", "messages", "metrics", "minutes", "modules", "names", "networks", "numbers",
    "objectives", "options", "packages", "pages", "parameters", "parts", "people", "pictures", "points", "positions",
    "predictions", "processes", "proposals", "proxies", "queries", "records", "repeats", "rounds", "rows", "rules",
    "runs", "samples", "searches", "seconds", "seeds", "sequences", "shares", "sizes", "snapshots", "spaces",
    "steps", "studies", "suggestions", "tables", "tensors", "texts", "threads", "times", "tokens", "trainings",
    "trials", "units", "values", "vectors", "warnings", "weights", "widths", "words", "workers", "years",
]  # fmt: skip
BETWEEN = r"(?!(?:in|of|the|a|to|with|and|or|than|no|its|where|gives|has|names|returned|runs|on|for|their|which|whose) )[a-z]+ "
PERCENT = re.compile(rf"%,?d (?:{BETWEEN}){{0,2}}?({'|'.join(NOUNS)})\b")
AFTER = re.compile(rf" (?:{BETWEEN}){{0,2}}?({'|'.join(NOUNS)})\b")

COUNTS = {
    "n", "count", "total", "done", "steps", "seeds", "trials", "number", "self.n", "report.n", "self.trials",
    "one.seen", "layers", "asked", "measured",
}  # fmt: skip
NEVER_ONE = {  # what stands before such a word and is not 1
    "2 * width", "4 * width", "8 * width", "8 * form.dtype.itemsize",  # bits
    "factor", "record.factor", "middle", "math.exp(common)", "max(self.factors)", "report.spread / report.noise",  # "2.5 times"
    "part['ratio']", "self.memory[1]", "self.training_memory[1]", "(now - self._slow_since) / 3600", "total.trainings",
    "self.bytes_per_token", "found.bytes_per_token", "t[-1]", "said", "figure(total)", "max(0, fidelity * tokens)",
    "len(self.table)", "tie", "tokens", "self.tokens ** self.order", "ATTEMPTS * n", "len(found)", "part['run']", "part['group']",
    "cls._level.size", "space.size(rules=False)", "SIDE[kind]", "wants",  # bounded from below where they are said
    "os.cpu_count()",  # which names the machine in what older versions wrote
    "device", "name", "self.name", "field", "dim", "top_k", "found.max_length", "tuple(tokens.shape)", "positions", "vocab", "spec.position", "what",
    "there", "number", "domain.size", "longest", "item.count",  # texts, before a verb or a name
}  # fmt: skip


def _numbered(tree: ast.AST) -> list[str]:
    """Every number that stands before a plural in an f-string, but constants in capitals, which are above 1."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.JoinedStr):
            continue
        for one, after in zip(node.values, [*node.values[1:], ast.Constant("")], strict=True):
            if not isinstance(one, ast.FormattedValue) or one.conversion != -1:
                continue
            text = after if isinstance(after, ast.Constant) else ast.Constant("")
            said = ast.unparse(one.value)
            form = ast.unparse(one.format_spec) if one.format_spec else ""
            values = {part.value for part in ast.walk(one.value) if isinstance(part, ast.Constant)}
            if "s" in values and "counted(" not in said:
                found.append(said)
            if not (said.startswith("len(") or said in COUNTS or "," in form):
                continue
            if (
                AFTER.match(text.value)
                and not said.isupper()
                and "counted(" not in said
                and said not in NEVER_ONE
                and "%" not in form
            ):
                found.append(f"{said}{text.value[:30]}")
    return found


def test_numbers_agree_with_their_nouns():
    found = []
    for path, tree in trees().items():
        source = path.read_text()
        texts = [str(one.value) for one in ast.walk(tree) if isinstance(one, ast.Constant)]
        hits = _numbered(tree) + [text[:60] for text in texts if re.search(r"[a-z]\(e?s\)(?! V)", text)]
        hits += [hit[0] for hit in PERCENT.finditer(source) if hit[1] != "characters"]
        found += [f"{path.relative_to(ROOT)}: {hit}" for hit in hits]
    assert not found, "\n".join(["write counted(n, noun) or plural(n, noun) of nas_bo.wording:", *found])


def test_the_fault_would_be_found():
    assert (
        _numbered(ast.parse("""f"rule{'s' * (n > 1)}\""""))
        and _numbered(ast.parse("""f'{n} trials'"""))
        and _numbered(ast.parse("""f'of {len(a):,} different layers'"""))
    )
    assert not _numbered(ast.parse("""f'{MOST} trials, {counted(n, "trial")}, {name!r} times'"""))


def test_counted():
    assert [counted(n, "trial") for n in (0, 1, 2, 12_000)] == ["0 trials", "1 trial", "2 trials", "12,000 trials"]
    assert (
        counted(1, "time was", "times were") == "1 time was" and counted(2, "time was", "times were") == "2 times were"
    )
    assert [plural(n, "is", "are") for n in (1, 3)] == ["is", "are"]
