"""What `--json` prints: one document for each command, with a name, a version and keys that stay.

A document has the key "schema", such as "nas-bo.status/1". Within a version no key is removed, renamed or given another type or meaning;
new keys may come, which a reader ignores. Files of nas_bo that a command prints (a space, a device, a profile) have the version of
that file instead, a whole number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from nas_bo.cli.output import say


@dataclass(frozen=True)
class Kind:
    """A document.

    Attributes:
        commands: what prints it.
        keys: name -> what it is. A name that ends in "?" is there only where the text says so.
        version: 0 for a file of nas_bo, which has its own.
        each: what the other keys are, where they are names.
        lines: it is one line, of as many as were asked for.
    """

    commands: str
    keys: Mapping[str, str]
    version: int = 1
    each: str = ""
    lines: bool = False


WARNINGS = {"warnings": "every warning that the command has shown, as texts"}
OBJECTIVES = "a list of {name, unit, direction}; direction is minimize or maximize"
FILES = {"files": "the paths that were written"}

KINDS: Mapping[str, Kind] = {
    "result": Kind(
        "`search`, `report`, `validate --baseline`; also the file `result.json` of a report, without schema, files and warnings",
        {
            "study": "its name",
            "objectives": OBJECTIVES,
            "trials": "how many have ended",
            "complete": "of those, how many have all values",
            "failed": "how many failed",
            "infeasible": "how many break a limit",
            "stopped": "how many were stopped early",
            "spent": "what was trained: {begun, stopped, trainings, tokens}",
            "interrupted": "whether it was stopped before its end",
            "knee": "the number of the trial to take when nothing else is known; null where no trial is feasible",
            "final_front": "numbers of the trials on the front, with the values that count",
            "evaluated_again": "objectives whose values were taken again at the end",
            "front": "a list of {trial, id, label, values, retrained, final, intervals, on_final_front, why_not, architecture}",
            "baselines": "what the search was compared with: {label, id, values, reason, standard, retrained}",
            "gain": "the first of the gains, or null",
            "gains": "what the front is better by, in each cost: {sentence, quality, unit, cost, cost_unit, better, factor, ...}",
            "not_compared": "why nothing was compared with, or empty",
            "finding": "one sentence on what the front has in common, or empty",
            "agreement": "the first line of the trust report, or null",
            "trust": "the trust report of the re-training, as `validate` prints it, or null",
            "validation": "the report of `validate` on this study, or null",
            "notes": "what to know before the figures are believed",
            "url": "the address in MLflow, or null",
            "facts": "what is needed to run it again",
            **FILES,
            **WARNINGS,
            "not_tracked?": "where not all of it is in MLflow: {why, command}",
            "text?": "from the tool `report` of `mcp`: what `report` prints as text",
        },
    ),
    "pick": Kind(
        "`report --pick`",
        {
            "study": "its name",
            "pick": "as it was typed",
            "trial": "its number",
            "id": "of the architecture",
            "label": "its short name",
            "values": "objective -> the value that counts",
            "searched": "objective -> the value of the search",
            "trained": "whether an objective is the result of a training",
            "retrained": "whether a trained value was taken again",
            "intervals": "objective -> {low, high} of what was measured",
            "units": "objective -> unit",
            "parameters": "how many, or null",
            "architecture": "its fields, flat",
            **WARNINGS,
        },
    ),
    "trust": Kind(
        "`validate`",
        {
            "first_line": "which estimates can be trusted, in one sentence",
            "recommendation": "what to do about it",
            "reference": "name of what counts as the truth",
            "unit": "its unit",
            "direction": "minimize or maximize",
            "seeds": "of the reference",
            "noise": "standard deviation between seeds, or null",
            "spread": "standard deviation between architectures",
            "proxies": "a list of what was judged, each with its rank correlations and their intervals",
            "parameters": "the same for the number of parameters, or null",
            "flops": "the same for FLOPs, or null",
            "ceiling": "the same for a second run of the reference, or null",
            "rows": "the architectures: {id, label, parameters, reference, values}",
            "chosen": "how they were chosen",
            "notes": "what else to know",
            **FILES,
            **WARNINGS,
        },
    ),
    "ladder": Kind(
        "`ladder`; also the file `ladder.json` of its report, without schema, files and warnings",
        {
            "version": "of the file",
            "study": "its name",
            "name": "of the loss",
            "unit": "of the loss",
            "seeds": "trainings of each architecture on each rung",
            "recipe": "the parametrization, tokens per parameter, tokens of each rung, corpus and first seed",
            "rungs": "a list of {factor, tokens, repeats, least, middle, most, bytes, seconds, how}: sizes in parameters",
            "architectures": "a list of {id, label, kind, trial, ids, sizes, flops, losses, reasons}; losses by rung and seed",
            "notes": "what to know before the figures are believed",
            "first_line": "the answer in a sentence or two",
            "decisions": "of each rung but the last {rung, overall, equal, by_size}, each {value, low, high, pairs}: shares of pairs decided as by the last",
            "ceiling": "the same of one seed of the last rung for the other: {overall, equal}",
            "noise_sd": "standard deviation between seeds on the last rung, or null",
            "promoted": "ids of the three to five architectures to train at the next size, the best first",
            "control": "the id of the plain decoder that goes with them, or null",
            "law": "{held_out, ranking, shown, forecast, sizes}: a power law, and the ranking that it has to beat",
            **FILES,
            **WARNINGS,
        },
    ),
    "ladder-plan": Kind(
        "`ladder --dry-run`",
        {
            "study": "its name",
            "seeds": "trainings of each architecture on each rung",
            "tokens_per_parameter": "as asked for",
            "trainings": "how many in all",
            "hours": "that they take with the workers asked for, by a throughput measured here",
            "rungs": "as in the document `ladder`",
            "architectures": "a list of {id, label, kind, trial, sizes}",
            "notes": "what to know",
            **WARNINGS,
        },
    ),
    "comparison": Kind(
        "`compare`",
        {
            "objectives": OBJECTIVES,
            "values": "search, or re-trained",
            "reference": "the common reference point of the hypervolumes, or null",
            "studies": "a list of {storage, study, trials, hypervolume, on_common_front, dominates, front}",
            "notes": "what to know before the figures are believed",
            **WARNINGS,
        },
    ),
    "status": Kind(
        "`status`",
        {
            "storage": "without passwords",
            "studies": "a list of {study, made_by_nas_bo, objectives, trials, finished, pruned, failed, running, waiting, lost, machines, nodes, last_ended, evaluated}; "
            "lost are running trials whose process is dead or silent, machines a list of {machine, ended, failed, running, lost}, by the process that searches; "
            "nodes, of a search on a cluster, a list of {id, host, address, workers, running, ended, failed, lost}, by the one that evaluates; "
            "of each running trial in evaluated {trial, by, machine, process, alive, since}",
            **WARNINGS,
        },
    ),
    "asked": Kind(
        "`ask`",
        {
            "number": "of the trial; `tell` wants it back",
            "id": "of the architecture",
            "known": "objectives and limits that are computed, by name",
            "architecture": "as plain data, a tree",
            "study": "its name",
            "tell": "the names whose values `tell` wants",
        },
        lines=True,
    ),
    "proposals": Kind("the tool `ask` of `mcp`", {"asked": "a list of documents `asked`"}),
    "evaluated": Kind(
        "the tool `train` of `mcp`",
        {
            "number": "of the trial",
            "state": "complete, infeasible or failed",
            "values": "name -> value, for `tell`",
            "reason?": "why it failed",
            "seconds": "that it took",
        },
    ),
    "outcome": Kind(
        "`tell`",
        {
            "number": "of the trial",
            "state": "complete, infeasible or failed",
            "values": "what the study now holds",
            "reason?": "why it failed, or is infeasible",
            "violated?": "limit, such as latency_ms<=25 -> by how much it is broken, where one is",
        },
        lines=True,
    ),
    "spaces": Kind("`spaces`", {}, each="a named space: {size, title}"),
    "space": Kind(
        "`spaces NAME`; a file that `Space.from_json` reads",
        {
            "schema": "its version",
            "title": "the name of the class",
            "fields": "the fields, a tree",
            "rules": "name -> a linear rule, or null for one that is code",
        },
        version=0,
    ),
    "inspection": Kind(
        "`spaces inspect`",
        {
            "title": "of the space",
            "size": "how many architectures without rules",
            "admitted": "how many the rules admit, or null",
            "share": "of the samples that the rules admit",
            "rules": "rule -> the share that it cuts",
            "dead": "choices that never matter -> how often they are there",
            "same": "the share of samples that build a network twice",
            "ranges": "measure -> its [5 %, 50 %, 95 %] quantiles",
            "decided_by": "measure -> field -> the share of its spread",
            "untried": "field -> the values that the study never had",
            "advice?": "with --storage: {members, unused, leaning, code}",
            **WARNINGS,
        },
    ),
    "devices": Kind("`devices`", {}, each="a device, as `devices NAME` prints it"),
    "device": Kind(
        "`devices NAME`, `devices --here`; a file that `--target` reads",
        {
            "schema": "its version",
            "name": "by which it is found",
            "kind": "cpu, gpu or npu",
            "gflops?": "type -> GFLOP/s; like all figures only where it is known",
            "sources?": "figure -> where it is from",
        },
        version=0,
    ),
    "drawings": Kind("`devices --pictures`", {**FILES, **WARNINGS}),
    "profile": Kind(
        "`profile`; the file that it wrote, and",
        {"profile": "the version of the file", "file": "its path", **WARNINGS},
        version=0,
    ),
    "trained": Kind(
        "`train`",
        {
            "folder": "of the model",
            "resumed": "whether it was begun before",
            "values": "name -> value on held-out text",
            "units": "name -> unit",
            "tokens": "that it was trained on",
            "parameters": "how many",
            "settings": "of the training",
            "searched": "the trial that it is from: {trial, label, values, ...}",
            "mlflow": "{run_id, of}, or null",
            **WARNINGS,
        },
        each="a part of the recipe in `model.json`",
    ),
    "generated": Kind("`generate`", {"prompt": "as it was typed", "text": "what follows it", **WARNINGS}),
    "exported": Kind(
        "`export`",
        {
            "folder": "that was written",
            "format": "huggingface, gguf, onnx or folder",
            "what": "the class or the type of the file",
            "check": "what the stock tool computed: {runtime, difference, scale, greedy, good, ...}, or null",
            "unchecked": "why there is no check, or empty",
            "mlflow": "the run and the version in the registry, or null",
            **WARNINGS,
        },
    ),
    "compressed": Kind(
        "`compress`",
        {
            "folder": "that was written",
            "unit": "of the losses",
            "steps": "a list of what was done, with its loss and its size",
            "remarks": "what to know",
            **WARNINGS,
        },
    ),
    "registered": Kind(
        "`register`",
        {"models": "a list of {name, version, aliases, trial, run_id, values, uri}", **WARNINGS},
    ),
    "rerun": Kind(
        "`rerun`",
        {
            "run": "its id",
            "agrees": "whether all figures agree; null where none could be compared",
            "objectives": "a list of what was compared",
            "changed": "what differs between then and now: name -> [then, now]",
            "logged": "the id of the new run, or null",
            **WARNINGS,
        },
    ),
    "merged": Kind(
        "`merge`",
        {
            "study": "its name",
            "storage": "that has it, without passwords",
            "added": "how many trials were copied",
            "known": "how many were there before",
            "left": "how many have not finished and were left",
            **WARNINGS,
        },
    ),
    "synced": Kind(
        "`mlflow sync`",
        {
            "logged": "how many trials",
            "ended": "runs that a killed process left running: [study, trial]",
            "left": "what is not in MLflow: [study, trial, why]",
            "planned": "with --dry-run, what would be logged: [study, trial, store]",
            **WARNINGS,
        },
    ),
    "page": Kind("`dashboard`, `ui`; printed when the page can be opened", {"url": "its address"}),
    "doctor": Kind(
        "`doctor`",
        {
            "ok": "whether all that was asked for works",
            "version": "of nas_bo",
            "checks": "a list of {group, name, state, found, fix, asked}; state is ok, missing, unavailable or broken",
            **WARNINGS,
        },
    ),
}  # fmt: skip
"""Name of a document -> what it has in it. `docs/reference/json.md` is made of this."""


def labelled(kind: str, data: Mapping[str, object]) -> dict[str, object]:
    """`data` with its name and version first, and the warnings so far where the document has them."""
    about = KINDS[kind]
    first: dict[str, object] = {"schema": f"nas-bo.{kind}/{about.version}"} if about.version else {}
    made = {**first, **data}
    if "warnings" in about.keys:
        from nas_bo.cli import warnings_shown

        made.setdefault("warnings", warnings_shown.current().texts)
    return made


def print_document(kind: str, data: Mapping[str, object]) -> None:
    """Print one document on stdout."""
    made = labelled(kind, data)
    say(json.dumps(made) if KINDS[kind].lines else json.dumps(made, indent=1), fold=False)
