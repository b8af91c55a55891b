"""A Python with the large libraries loaded, which forks for each program: a process of its own without seconds of imports.

Started by `tests/processes.py`; `python -I -S fork_server.py SOCKET ARGUMENTS...` is `python ARGUMENTS...` for a shell.
"""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BYTES = 1 << 17  # of one request: arguments and environment
FILES = 32
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415478da63f8ffff3f0005fe02fe0def46b80000000049454e44ae426082"
)  # a PNG
HELD_OUT, TRAINED = (
    4_096,
    2_000,
)  # tokens, where programs take a sixteenth of the text, and losses train on a quarter, but not on less than these
# variables: its address, the file of processor times that is the asker's, and of programs that need not be exact
PLACE, RUN, SHORT = "FORK_SERVER", "FORK_SERVER_RUN", "FORK_SERVER_SHORT"
LOADED = (
    "numpy", "torch", "optuna", "pandas", "scipy.stats", "matplotlib.pyplot", "mlflow", "mlflow.store.tracking.sqlalchemy_store",
    "moocore", "safetensors.torch", "ax.api.client", "botorch", "concurrent.futures.process", "multiprocessing.spawn",
    "transformers.pipelines", "transformers.models.llama.modeling_llama", "pytest", "mcp",
)  # fmt: skip


# ---- the server -----------------------------------------------------------------------------------------------------


def serve(listening: socket.socket, owner: int) -> None:
    """Fork for each request, and answer with the process, then with its end, until `owner` has ended."""
    import gc
    import warnings

    sys.path.pop(0)  # the folder of this file: no module of the tests is to hide a library
    for name in LOADED:
        with suppress(ImportError):
            __import__(name)
    load_our_own()
    remember_migrations()
    collect_seldom()
    warm()
    nothing_to_tear_down()
    gc.freeze()
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    waiting: dict[int, tuple[socket.socket, str]] = {}
    while _alive(owner):
        ready, _, _ = select.select([listening, woken], [], [], 2)
        if woken in ready:
            os.read(woken, 4096)
        if listening in ready:
            connection, _ = listening.accept()
            sent, fds, _, _ = socket.recv_fds(connection, BYTES, FILES)
            if not sent:  # who wanted to ask was killed before
                connection.close()
                continue
            request = json.loads(sent)
            with warnings.catch_warnings(action="ignore"):  # of forking where a library has a thread
                pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for other in (listening, *(there for there, _ in waiting.values())):
                    other.close()
                os.close(woken)
                os.close(wake)
                _become(request, fds, connection)
            waiting[pid] = connection, request["run"]
            for fd in fds:
                os.close(fd)
        while waiting and (ended := os.wait4(-1, os.WNOHANG))[0]:
            connection, run = waiting.pop(ended[0])
            if run:
                with open(run, "a") as file:
                    file.write(f"{ended[2].ru_utime + ended[2].ru_stime}\n")
            with connection, suppress(OSError):  # who asked has ended
                connection.send(str(ended[1]).encode())


def load_our_own() -> None:
    """The package that lies beside the tests: its files read nothing of their environment while they load."""
    from pathlib import Path

    sys.path.insert(0, ROOT)
    for path in sorted(Path(ROOT, "nas_bo").rglob("*.py")):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        # the door to Ax changes what Ax does where it is imported, and tests ask when that happens
        if not module.startswith("nas_bo.ax") and path.name != "__main__.py":
            with suppress(ImportError):  # of a library that is not installed
                __import__(module)
    sys.path.remove(ROOT)


def _forget_another(paths: list[str]) -> None:
    """Where `paths` lead to a package of that name elsewhere, it is that one which a program is to import."""
    for path in paths:
        for place in (os.path.join(path, "nas_bo"), os.path.join(path, "nas_bo.py")):
            if os.path.exists(place):
                if not os.path.samefile(place, os.path.join(ROOT, "nas_bo")):
                    for name in [name for name in sys.modules if name.partition(".")[0] == "nas_bo"]:
                        del sys.modules[name]
                return


def warm() -> None:
    """What libraries do once in each process that uses them: a study and runs in databases in memory, and a picture."""
    import io
    import tempfile

    import optuna
    import sqlalchemy.orm
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from mlflow.entities import Metric, Param, RunTag
    from mlflow.tracking import MlflowClient

    optuna.logging.disable_default_handler()
    study = optuna.create_study(storage="sqlite://", directions=["minimize", "minimize"])
    study.set_user_attr("a", "b")
    trial = study.ask()
    trial.set_constraint("c", trial.suggest_int("x", 0, 9))
    trial.set_user_attr("a", "b")
    study.tell(trial, [1.0, 2.0])
    study.get_trials(), study.best_trials
    optuna.logging.enable_default_handler()

    sqlalchemy.orm.configure_mappers()
    with tempfile.TemporaryDirectory() as folder:
        client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
        run = client.create_run("0", tags={"a": "b"})
        client.log_batch(run.info.run_id, [Metric("m", 1.0, 0, 0)], [Param("p", "v")], [RunTag("t", "u")])
        client.set_terminated(run.info.run_id)
        client.search_runs(["0"], "tags.`a` = 'b'")

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel="x", ylabel="y", title="z", xscale="log")
    axes.plot([1, 2], [3, 4], "o-", label="l")
    axes.legend()
    figure.savefig(io.BytesIO(), format="png")

    from hypothesis.internal.charmap import charmap
    from hypothesis.internal.conjecture.providers import _get_local_constants

    charmap(), _get_local_constants()  # the constants that hypothesis reads out of all files of the package


def remember_migrations() -> None:
    """The scripts by which libraries make their databases are run and put in order once, not three times for each database. And nearly each test
    has a database of its own, for which SQLAlchemy would compile all statements: those of SQLite are compiled once in a process."""
    from functools import cache

    import alembic.util
    from alembic.script import ScriptDirectory
    from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite as SQLite
    from sqlalchemy.engine import Engine
    from sqlalchemy.util import LRUCache

    load, order = alembic.util.load_python_file, ScriptDirectory.from_config
    if load.__name__ == "remembered":
        return
    once, compiled = cache(load), LRUCache[Any, Any](10_000)
    ordered: dict[str, ScriptDirectory] = {}

    def remembered(folder: str, name: str) -> Any:
        return (load if name == "env.py" else once)(folder, name)  # env.py is what runs them

    def from_config(config: Any) -> ScriptDirectory:
        place = config.get_main_option("script_location")
        if place not in ordered:
            ordered[place] = order(config)
        return ordered[place]

    def of_engine(self: Engine) -> object:
        return compiled if type(self.dialect) is SQLite else vars(self)["own statements"]

    alembic.util.load_python_file = remembered
    ScriptDirectory.from_config = from_config  # type: ignore[method-assign]
    Engine._compiled_cache = property(of_engine, lambda self, own: vars(self).update({"own statements": own}))  # type: ignore[assignment]
    SQLite.__eq__ = lambda self, other: type(self) is type(other)  # type: ignore[method-assign, assignment]
    SQLite.__hash__ = lambda self: hash(type(self))  # type: ignore[method-assign]


def collect_seldom() -> None:
    """Tests leave little to collect: Python looks for it after 10,000 objects and not after 700, and hardly ever through all of them. And the
    members of a protocol are looked up once, as from Python 3.12, not at each `isinstance`."""
    import gc
    import typing
    from functools import cache

    gc.set_threshold(10_000, 20, 100)
    for name in ("_get_protocol_attrs", "_is_callable_members_only") if sys.version_info < (3, 12) else ():
        setattr(typing, name, cache(getattr(typing, name)))


def nothing_to_tear_down() -> None:
    """A process that ends need not take apart what torch has registered, nor say how long torch compiled: for that it imports a library."""
    import atexit
    import weakref

    from torch._dynamo import utils

    atexit.unregister(utils.dump_compile_times)

    for finalizer in weakref.finalize._registry:  # type: ignore[attr-defined]
        finalizer.atexit = False


def shorten() -> None:
    """For programs and commands in which no figure counts: a sixteenth of the default held-out text, a quarter of the tokens that a
    validation loss trains on, and a fifth of the rounds in which latencies are measured; pictures are composed and not rendered.
    Everything else is as it stands."""
    import copy

    from nas_bo.model.data import Corpus
    from nas_bo.objectives import ValidationLoss

    begin = ValidationLoss._begin

    def briefly(self: ValidationLoss, arch: Any, checkpoint: str | None) -> Any:
        brief = copy.copy(self)
        object.__setattr__(brief, "tokens", min(self.tokens, max(self.tokens / 4, TRAINED)))
        return begin(brief, arch, checkpoint)

    ValidationLoss._begin = briefly  # type: ignore[method-assign]
    held_out = Corpus.held_out
    Corpus.held_out = lambda self, tokens, sequence: held_out(self, min(tokens, HELD_OUT), sequence)  # type: ignore[method-assign]
    measure_briefly()
    do_not_render()


def measure_briefly() -> Callable[[], None]:
    """Real models on this machine, in as few rounds as give a median and an interval, a run each. Returns what ends that."""
    from nas_bo.hardware.measuring import bench, session

    names = (
        (bench.Bench, "_rounds"),
        (bench, "LEAST"),
        (bench, "_repeats"),
        (bench._Item, "over"),
        (session.Session, "_ended"),
    )
    before = [getattr(owner, name) for owner, name in names]
    rounds = bench.Bench._rounds
    bench.Bench._rounds = lambda self, rungs, seconds: rounds(self, rungs, seconds / 10)  # type: ignore[method-assign]
    bench.LEAST = 4
    bench._repeats = lambda ms: (0, 1)
    bench._Item.over = lambda self, seconds: True  # type: ignore[method-assign]
    session.Session._ended = lambda self, item: len(self._visits[item.wanted.key]) >= session.LEAST  # type: ignore[method-assign]

    def end() -> None:
        for (owner, name), value in zip(names, before, strict=True):
            setattr(owner, name, value)

    return end


def do_not_render() -> Callable[[], None]:
    """Pictures of matplotlib are composed as ever, then neither measured nor rendered: files are one white pixel. Returns
    what ends that."""
    from matplotlib.axes import Axes
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    before = FigureCanvasAgg.print_png, Axes.get_tightbbox
    FigureCanvasAgg.print_png = lambda self, file, **_: file.write(PIXEL)  # type: ignore[method-assign]
    Axes.get_tightbbox = lambda self, *_, **__: None  # type: ignore[method-assign]

    def end() -> None:
        FigureCanvasAgg.print_png, Axes.get_tightbbox = before  # type: ignore[method-assign]

    return end


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _become(request: dict[str, Any], fds: list[int], connection: socket.socket) -> None:
    """What `python` does with arguments, an environment, a folder and files; does not return."""
    import multiprocessing.process

    import numpy as np

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN if request["deaf"] else signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    os.setpgid(0, 0)
    with suppress(OSError):  # the group of who asks; a new one where that is none of ours
        os.setpgid(0, request["group"])
    connection.send(str(os.getpid()).encode())
    connection.close()
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 200) for fd in fds]
    for fd in fds:
        os.close(fd)
    for fd, number in zip(high, request["files"], strict=True):
        os.dup2(fd, number)
        os.close(fd)
    sys.stdout.reconfigure(line_buffering=os.isatty(1))  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    multiprocessing.process.ORIGINAL_DIR = os.getcwd()  # type: ignore[attr-defined]
    np.random.seed()
    if PLACE in os.environ:
        quick_spawn()
    if SHORT in os.environ:
        shorten()
    code = 1
    try:
        _run(request["arguments"])
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if end.code is not None and not isinstance(end.code, int):
            print(end.code, file=sys.stderr)
    except BaseException as error:
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
        sys.excepthook(type(error), error, error.__traceback__)
    _end(code)


def _run(arguments: list[str]) -> None:
    import runpy
    from types import ModuleType

    paths = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    main = sys.modules["__main__"] = ModuleType("__main__")
    first, *rest = arguments[1:] if arguments[0] == "-u" else arguments
    before = os.getcwd() if first in ("-m", "-c") else os.path.dirname(os.path.realpath(first))
    _forget_another([before, *paths])
    if first == "-m":
        sys.argv, sys.path[:0] = rest, [before, *paths]
        runpy._run_module_as_main(rest[0])  # type: ignore[attr-defined]
        return
    if first == "-c":
        sys.argv, sys.path[:0] = ["-c", *rest[1:]], ["", *paths]
        text = rest[0]
    else:
        sys.argv, sys.path[:0] = [first, *rest], [before, *paths]
        main.__file__ = first
        with open(first, encoding="utf-8") as file:
            text = file.read()
    exec(compile(text, "<string>" if first == "-c" else first, "exec", dont_inherit=True), main.__dict__)


def _end(code: int) -> None:
    """The end of an interpreter: threads, what was registered for the end, what is still to be written."""
    import atexit
    import threading

    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        code = code or 1
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):
            stream.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code & 0xFF)


# ---- who asks it ----------------------------------------------------------------------------------------------------


def start(place: str) -> None:
    """Where none serves: one for all processes of a test run, whose first process is in the name of the place."""
    import subprocess

    with open(f"{place}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.path.exists(place):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
            listening.bind(place)
            listening.listen(64)
            outside = ("PYTHONPATH", "PYTEST_CURRENT_TEST")
            with open(f"{place}.said", "wb") as said:
                subprocess.Popen(
                    [sys.executable, __file__, "--serve", str(listening.fileno()), place.rpartition(".")[2]],
                    pass_fds=[listening.fileno()], stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                    env={k: v for k, v in os.environ.items() if k not in outside}, start_new_session=True,
                )  # fmt: skip


def ask(arguments: list[str], folder: str, environment: dict[str, str], files: dict[int, int], own_group: bool = False, place: str = "") -> tuple[socket.socket, int]:  # fmt: skip
    """Start a program with `files`, number there -> number here; the connection that tells its end, and its process."""
    place = place or os.environ[PLACE]
    start(place)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    request = {
        "arguments": arguments, "folder": folder, "environment": environment, "files": list(files),
        "group": 0 if own_group else os.getpgrp(), "run": os.environ.get(RUN, ""),
        "deaf": signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
    }  # fmt: skip
    try:
        connection.connect(place)
        socket.send_fds(connection, [json.dumps(request).encode()], list(files.values()))
        return connection, int(connection.recv(BYTES))
    except (OSError, ValueError) as error:
        with open(f"{place}.said") as said:
            raise RuntimeError(f"the process that forks has ended; it said: {said.read()[-3000:]}") from error


def ended(connection: socket.socket, flags: int = 0) -> int | None:
    """The status with which it ended, as of `os.waitpid`; None where it runs and nobody wants to wait."""
    connection.setblocking(not flags & os.WNOHANG)
    try:
        said = connection.recv(BYTES)
    except BlockingIOError:
        return None
    connection.close()
    return int(said) if said else signal.SIGKILL  # the server was killed, and so will this be


def quick_spawn() -> None:
    """Processes that `multiprocessing` spawns come from the server too."""
    from multiprocessing import popen_spawn_posix, resource_tracker, util
    from threading import Lock

    one_at_a_time = Lock()

    class Popen(popen_spawn_posix.Popen):
        def _launch(self, process_obj: Any) -> None:
            def forked(executable: str, command: list[Any], fds: list[int]) -> int:
                arguments = [str(word) for word in command]
                files = {fd: fd for fd in (0, 1, 2, *fds)}
                self._connection, pid = ask(arguments[arguments.index("-c") :], os.getcwd(), dict(os.environ), files)
                return pid

            with one_at_a_time:
                resource_tracker.ensure_running()  # by the function that is replaced now
                before, util.spawnv_passfds = util.spawnv_passfds, forked
                try:
                    super()._launch(process_obj)
                finally:
                    util.spawnv_passfds = before

        def poll(self, flag: int = os.WNOHANG) -> int | None:
            if self.returncode is None and (status := ended(self._connection, flag)) is not None:
                self.returncode = os.waitstatus_to_exitcode(status)
            return self.returncode

    popen_spawn_posix.Popen = Popen  # type: ignore[misc]


def _client() -> None:
    files = {number: number for number in (0, 1, 2)}
    connection, pid = ask(sys.argv[2:], os.getcwd(), dict(os.environ), files, place=sys.argv[1])
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda number, _: os.kill(pid, number))
    code = os.waitstatus_to_exitcode(ended(connection) or 0)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve(socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]))
    else:
        _client()
