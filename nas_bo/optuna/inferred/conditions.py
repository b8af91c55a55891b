"""Which parameter exists when: the structure of a define-by-run objective, learned from its finished trials.

Names with numbers in them (``n_head_3``, ``layers.3.kernel``) whose count is another parameter's value become lists of
records; what is there for some values of one other parameter and never for the rest becomes conditional on it. Nothing
breaks where a guess is wrong: a parameter that is asked for without a proposal is drawn at random, one that is
proposed without being asked for is skipped, and the next finished trial corrects the guess.

Notation: a table has one row for each trial (or record) and one column for each parameter; only how often columns were there,
alone and with a value of another, is kept of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nas_bo.optuna.coding import Coding
from nas_bo.optuna.inferred.branches import find_parents
from nas_bo.optuna.inferred.record_lists import MARKS, Records, find_lists
from nas_bo.optuna.inferred.tables import Table
from nas_bo.space.domain import Choice, Domain, Repeat, When
from nas_bo.space.extend import FieldNames

SELDOM = 0.2  # the share of trials below which a parameter that nothing explains is left out


@dataclass(frozen=True)
class Plan:
    """Fields for a space, and the flat path, the name in Optuna and the coding of every decision that they make."""

    fields: dict[str, Any] = field(default_factory=dict)
    leaves: list[tuple[str, str, Coding]] = field(default_factory=list)


def arrange(table: Table, taken: Collection[str] = (), given: Mapping[str, str] | None = None, depth: int = 0) -> Plan:
    """The fields of a record that has the parameters of `table`.

    Args:
        taken: field names that are used already.
        given: parameters that are fields already, always there: name -> field. Others may depend on them.
    """
    given = given or {}
    lists = list(find_lists(table, given, depth))
    listed = {column for found in lists for family in found.families for column in family.columns.values()}
    plain = [c for c in range(len(table.names)) if c not in listed]
    parents = find_parents(table, plain, given)
    seldom = table.there < SELDOM * table.rows
    always = [c for c in plain if c not in parents and not seldom[c] and table.names[c] not in given]
    named = FieldNames(taken)
    fields = {c: given.get(name) or named.new(_unmarked(name)) for c, name in enumerate(table.names) if c in plain}
    plan = Plan()

    def emit(into: Plan, columns: Sequence[int], prefix: str = "") -> None:
        for c in columns:
            name, code = fields[c], table.codings[c]
            below: dict[frozenset[Any], list[int]] = {}
            for child, (parent, values) in parents.items():
                if parent == c:
                    below.setdefault(values, []).append(child)
            if table.names[c] not in given:
                options: dict[Any, Mapping[str, object]] = {}
                for (value,) in [values for values in below if len(values) == 1 and _names_an_option(code, values)]:
                    inner = Plan(leaves=into.leaves)
                    emit(inner, below.pop(frozenset([value])), f"{prefix}{name}.{value}.")
                    options[value] = inner.fields
                into.fields[name] = _with_options(code.domain, options)
                into.leaves.append((prefix + name, table.names[c], code))
            for found in lists:
                if found.count == c:
                    _add_list(into, found, table, name, named, depth, prefix)
            for values, children in below.items():
                inner = Plan(leaves=into.leaves)
                emit(inner, children, prefix)
                into.fields[named.new("when")] = When(name, values, inner.fields)

    emit(plan, [c for c, name in enumerate(table.names) if name in given])
    emit(plan, always)
    for found in lists:
        if found.count is None:
            _add_list(plan, found, table, found.most, named, depth, "")
    return plan


def _with_options(domain: Domain, options: Mapping[str, Mapping[str, Any]]) -> Domain:
    return replace(domain, options=options) if isinstance(domain, Choice) and options else domain


def _names_an_option(code: Coding, values: frozenset[Any]) -> bool:
    """Whether one value of a plain choice may carry what depends on it, as if the space had been written down."""
    (value,) = values
    plain = isinstance(code.domain, Choice) and not code.domain.ordered and not code.by_index
    return plain and isinstance(value, str) and value != "" and "." not in value and not value.isdecimal()


def _add_list(
    into: Plan, found: Records, table: Table, count: str | int, named: FieldNames, depth: int, prefix: str
) -> None:
    families = sorted(found.families, key=lambda f: min(f.columns.values()))
    inner = arrange(found.pooled(table, families), depth=depth + 1)
    heads = {f.stem.partition(MARKS[depth])[0] for f in families}
    name = heads.pop() if len(heads) == 1 else f"per_{count}" if isinstance(count, str) else "records"
    name = named.new(_unmarked(name))
    into.fields[name] = Repeat(count, inner.fields)
    for i in range(found.most):
        for path, stem, code in inner.leaves:
            into.leaves.append((f"{prefix}{name}.{i}.{path}", stem.replace(MARKS[depth], str(i + found.first)), code))


def _unmarked(name: str) -> str:
    return "".join(c for c in name if c not in MARKS)
