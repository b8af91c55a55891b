"""`--help`: options in groups, in whole sentences, as wide as the terminal up to 120 columns.

Types of click are `Any` here: newer versions of typer bring a click of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from typer.core import TyperCommand, TyperGroup

from nas_bo.cli.failure import errors, parsed, refuse_empty
from nas_bo.cli.output import answering
from nas_bo.cli.typed_options import remembered

WHOLE = "\N{NON-BREAKING HYPHEN}"  # while lines are made, so that none ends inside `nas-bo` or --token-dtype
WIDE = {"max_content_width": 120, "help_option_names": ["--help", "-h"]}

GROUPS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "search": {
        "What is searched, and how": ("space", "source", "operators", "bits", "device_map", "objective", "strategy", "trials", "hours", "seed", "baseline", "no_baseline"),
        "Training": (
            "data", "tokenizer", "text_key", "token_dtype", "vocab_size", "budget", "teacher", "retrain", "retrain_others", "device",
            "workers", "asynchronous", "ray", "cpus_per_trial", "gpus_per_trial", "trial_timeout",
        ),
        "What costs are measured or predicted for": ("target", "dtype", "context", "batch"),
        "Limits, kept before anything is trained": (
            "max_parameters", "max_active_parameters", "parameters_near", "max_memory", "max_latency_ms", "max_decode_ms",
            "max_energy_mj", "min_throughput", "servable",
        ),
        "Where it is kept and shown": (
            "storage", "storage_patience", "study", "adopt_after", "mlflow", "mlflow_patience", "out", "as_json",
        ),
    },
    "validate": {
        "What is validated": ("space", "proxy", "reference_budget", "architectures", "seeds", "seed", "baseline"),
        "Training": ("data", "tokenizer", "text_key", "token_dtype", "vocab_size", "device", "workers", "ray", "cpus_per_trial", "gpus_per_trial", "trial_timeout"),
        "Where it is kept and shown": ("storage", "study", "mlflow", "mlflow_patience", "out", "as_json"),
    },
    "ladder": {
        "Sizes, and what climbs": ("rungs", "factor", "architectures", "baseline", "space", "seed"),
        "Training": (
            "tokens_per_parameter", "seeds", "parametrization", "most_repeats", "workers", "ray", "cpus_per_trial", "gpus_per_trial",
            "trial_timeout",
        ),
        "What the study may ask for": ("allow", "allow_path", "budget_limit"),
        "Where it is kept and shown": ("dry_run", "study", "mlflow", "mlflow_patience", "out", "as_json"),
    },
    "ask": {
        "What is searched, needed in the first call only": (
            "space", "objective", "at_most", "at_least", "strategy", "vocab_size", "seed",
        ),
        "What is printed": ("count", "waiting", "as_json"),
        "The study, and what it may name": ("storage", "study", "allow"),
    },
    "train": {
        "What is trained": ("storage", "study", "pick", "to"),
        "Training": ("tokens", "lr", "batch_size", "sequence", "seed", "teacher"),
        "What the study may ask for": ("allow", "allow_path", "budget_limit"),
        "Where it is kept and shown": ("mlflow", "as_json"),
    },
    "export": {
        "What is written": ("folder", "to", "format", "type", "bits", "padding", "remote_code", "text"),
        "Where it is kept and shown": ("mlflow", "name", "alias", "as_json"),
    },
    "compress": {
        "What is made smaller": ("folder", "to"),
        "Fewer bits": ("bits", "group", "method", "symmetric", "activations"),
        "Fewer units": ("prune", "heads", "layers", "score", "sparsity"),
        "Training afterwards": ("tokens", "distill", "lr", "seed", "data"),
        "What the folder may ask for": ("allow", "allow_path", "budget_limit"),
    },
    "register": {
        "What is trained and put there": ("storage", "study", "pick", "name", "mlflow"),
        "What the study may ask for": ("allow", "allow_path", "budget_limit"),
    },
    "devices": {
        "What is shown": ("name", "here", "as_json"),
        "Pictures": ("pictures", "space", "arch", "phase", "context", "dtype"),
    },
    "mcp": {
        "What is served": ("storage", "device"),
        "What the agent may do": ("allow", "allow_path", "budget_limit", "trial_timeout"),
    },
    "profile": {
        "What is measured": ("space", "architectures", "seed", "phase", "context", "batch", "dtype", "vocab_size", "lookup"),
        "How it is measured": ("runtime", "device", "threads", "clock", "precision", "max_seconds", "ray", "on"),
        "Where it is kept and shown": ("out", "name", "as_json"),
    },
}  # fmt: skip
"""Command -> heading -> parameters, by the names in the code; what is named nowhere comes last, with `--help`."""

COMMANDS = {
    "Search and look": ("search", "report", "compare", "status", "validate", "ladder"),
    "What can be searched, and where": ("spaces", "devices", "profile", "doctor"),
    "One architecture at a time": ("ask", "tell", "mcp"),
    "Studies and models": ("train", "generate", "export", "compress", "register", "rerun", "merge"),
    "Pages in the browser": ("dashboard", "ui", "mlflow"),
}

FIRST = """\
nas-bo finds language-model architectures that are good and cheap on a given device.

  nas-bo search                     Find architectures. Without options it trains small ones for some minutes.
  nas-bo report nas-bo.db           Look at what a search has found, and write its report again.
  nas-bo train nas-bo.db --to out   Train the winner to the end.
  nas-bo export out --to model      Write it for transformers, llama.cpp or ONNX Runtime.
  nas-bo doctor                     See what is installed, and what installs the rest.

`nas-bo --help` lists all commands, and `nas-bo COMMAND --help` the options of one."""
"""What `nas-bo` alone prints."""


OWN_STDOUT = ("mcp",)  # commands that keep stdout free for a protocol themselves


class Grouped(TyperCommand):
    """A command whose options are listed under headings, and named in errors."""

    def invoke(self, ctx: Any) -> Any:
        given = {
            p.name: (p.opts[0], ctx.params[p.name])
            for p in self.get_params(ctx)
            if p.param_type_name == "option" and p.name in ctx.params and ctx.params[p.name] != p.get_default(ctx)
        }
        every = {p.name: p.opts[0] for p in self.get_params(ctx) if p.param_type_name == "option"}
        with remembered(given, every), nullcontext() if self.name in OWN_STDOUT else answering():
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: object) -> None:
        rows = {p.name: record for p in self.get_params(ctx) if (record := p.get_help_record(ctx)) is not None}
        for heading, names in GROUPS.get(self.name or "", {}).items():
            _listed(formatter, heading, [rows.pop(name) for name in names if name in rows])
        _listed(formatter, "Options", list(rows.values()))


class Commands(TyperGroup):
    """The command itself: commands under headings, each with its whole first sentence.

    An argument that is empty is refused here for all of them, and Ctrl-C is exit code 130 also where a command has nothing to
    say about it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        with errors():
            refuse_empty(args)
        if args[:1] == ["help"]:  # `nas-bo help search`
            args = [*args[1:], "--help"]
        ctx.obj = list(args)
        with errors(), parsed(args):
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> object:
        with errors(), parsed(ctx.obj):
            return super().invoke(ctx)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        _listed(formatter, "Options", [r for p in self.get_params(ctx) if (r := p.get_help_record(ctx)) is not None])
        self.format_commands(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: object) -> None:
        rows = {}
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                rows[name] = (name, _first_sentence(command.help or ""))
        for heading, names in COMMANDS.items():
            _listed(formatter, heading, [rows.pop(name) for name in names if name in rows])
        _listed(formatter, "Commands", list(rows.values()))


def _listed(formatter: Any, heading: str, rows: list[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(heading):
            formatter.write_dl(
                [(re.sub(r"<list\[(\w+)\]>", r"<\1>", name), text.replace("-", WHOLE)) for name, text in rows]
            )
        formatter.buffer[:] = [piece.replace(WHOLE, "-") for piece in formatter.buffer]


def _first_sentence(text: str) -> str:
    """Up to the first full stop at the end of a word, in one line."""
    line = " ".join(text.split("\n\n")[0].split())
    end = line.find(". ")
    return line if end < 0 else line[: end + 1]
