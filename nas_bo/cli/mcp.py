"""`nas-bo mcp`: the six verbs of a search for agents that speak the Model Context Protocol, over stdin and stdout.

Needs the extra `agents`, which brings the official SDK.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

import nas_bo
from nas_bo.cli.failure import errors
from nas_bo.cli.options import AllowPath, allowed, duration
from nas_bo.cli.typed_options import above_zero
from nas_bo.errors import MissingExtra, NasBoError

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from nas_bo.cli.agent_tools import Tools

TOKENS = 1e7  # of one training that an agent may ask for
SERVER = """\
nas_bo proposes language-model architectures that are good and cheap, and learns from what you report. The loop: `ask` for an architecture; evaluate it
with your own program, or with `train`; `tell` every value that `ask` lists under "tell", or why it failed. Repeat. `report` shows the front (no member is better
in everything than another), `best` gives one architecture. Tell what was measured, never a guess: one wrong value misleads all later proposals. Of an architecture that did not
fit tell that it failed, with the reason. Limits (at_most, at_least) belong into the first `ask`: what can be computed is refused before anything is spent."""
VERBS = {
    "ask": """The next architectures to evaluate. The first call of a study says what is searched; later ones need no argument but count.

space: tiny_gpt (the default), llama, hybrid, moe, mixers, ... objectives: names; parameters, mflops and kv_cache_bytes are computed, every other name is a value that you tell: smaller is better,
or larger with "max:NAME". By default bits_per_byte and latency_ms. at_most, at_least: limits such as {"parameters": 200000}. waiting: those that wait for `tell`. Of each architecture: number, id, known (what is computed), architecture, tell (the
names whose values you tell).""",
    "train": """Train and measure an architecture that was asked for with nas_bo's own training, in a process of its own. Returns the values; nothing is kept until you call `tell` with them.

Only for values that nas_bo knows (bits_per_byte, latency_ms, decode_ms, memory, ...). tokens: training tokens, 200,000 by default. data: a text file or folder in the working folder, by default the source of Python's standard library.""",
    "tell": "Keep what became of an architecture: values for every name that `ask` listed under tell, or the reason in failed. Telling the same twice changes nothing.",
    "status": "How many trials of each study have ended, run and wait.",
    "report": "What was found so far: the front, the recommended trial (knee), what was gained, how far estimates are to be trusted, and the table as text.",
    "best": """One architecture with its values: pick is "knee", "best:NAME", "NAME where OTHER<=X and THIRD>=Y", or the number of a trial.""",
}
"""Tool -> its description, which is all that an agent reads about it."""


def server(tools: Tools) -> MCPServer:
    """The server of these tools.

    Raises:
        MissingExtra: the SDK is not installed.
    """
    try:
        from mcp.server import MCPServer
    except ImportError as error:
        raise MissingExtra("mcp", "agents") from error
    made: MCPServer = MCPServer("nas_bo", version=nas_bo.__version__, instructions=SERVER)
    verbs: dict[str, Callable[..., dict[str, object]]] = {
        "ask": tools.ask, "train": tools.train, "tell": tools.tell, "status": tools.status, "report": tools.report, "best": tools.best,
    }  # fmt: skip
    for name, description in VERBS.items():
        made.add_tool(_answering(verbs[name]), name=name, description=description)
    return made


def _answering(verb: Callable[..., dict[str, object]]) -> Callable[..., dict[str, object]]:
    """The verb as a tool: an error of nas_bo is its text, for the agent to read; secrets stay here."""
    import functools
    import json

    from mcp.server.mcpserver.exceptions import ToolError

    from nas_bo.cli.output import shown

    @functools.wraps(verb)
    def tool(*args: object, **named: object) -> dict[str, object]:
        try:
            found = verb(*args, **named)
        except NasBoError as error:
            raise ToolError(shown(str(error))) from None
        answer: dict[str, object] = json.loads(shown(json.dumps(found)))
        return answer

    return tool


def mcp(
    storage: Annotated[
        str, typer.Option(help="The storage of calls that name none. Others must be files in this folder.")
    ] = "nas-bo.db",
    allow: Annotated[
        list[str] | None,
        typer.Option(
            help="A module or file of yours that the agent may name for a space, an objective or a strategy, repeatable: it is then imported."
        ),
    ] = None,
    allow_path: AllowPath = None,
    budget_limit: Annotated[
        float, typer.Option(help="The most tokens that the agent may train an architecture for.", callback=above_zero)
    ] = TOKENS,
    trial_timeout: Annotated[
        str, typer.Option(help="How long one training of the agent may take: 10m, 2h, 90s.")
    ] = "10m",
    device: Annotated[
        str | None, typer.Option(help="Torch device to train and measure on. By default CUDA if there is one.")
    ] = None,
) -> None:
    """Serve a search to a coding agent by the Model Context Protocol, on stdin and stdout: ask, train, tell, status, report and best."""
    with errors():
        import optuna

        from nas_bo.cli.agent_tools import Tools
        from nas_bo.optuna import storages

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        logging.getLogger("mcp").setLevel(logging.ERROR)
        storages.check_name(storage)
        may = allowed(allow, allow_path, budget_limit)
        server(Tools(storage, may, duration("--trial-timeout", trial_timeout), device)).run()
