"""How well latencies on this machine can be measured again, and predicted: torch eager and ONNX Runtime, or a GPU.

    python -m benchmarks.hardware_here.run --prepare              # exports for ONNX Runtime; the machine may be busy
    python -m benchmarks.hardware_here.run                        # measures; the machine should do nothing else
    python -m benchmarks.hardware_here.run --case tiny_gpt.eager  # one part of it
    python -m benchmarks.hardware_here.run --device cuda          # a GPU: torch eager and CUDA graphs

Two spaces (tiny_gpt, and one of 10 to 50 million parameters), two runtimes, prefill and decode. In each case 20 designed
and 30 random architectures are measured in a session, and the 30 in a second one that knows nothing of the first. The latency models are fitted
to the 20 (the roofline to the first 10) and asked for the 30, beside straight lines on FLOPs and on parameters. Visits are
kept as they come, finished cases in full: the same command goes on. Writes benchmarks/results/hardware_here.json, of a GPU
hardware_cuda.json.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import RESULTS, envelope, write
from nas_bo.architecture import Architecture
from nas_bo.hardware.devices.device import Device
from nas_bo.hardware.latency.learned import Learned
from nas_bo.hardware.latency.lookup import Lookup
from nas_bo.hardware.latency.profile_design import informative, pool
from nas_bo.hardware.latency.quality import fits, scored
from nas_bo.hardware.latency.roofline import Roofline
from nas_bo.hardware.measuring.session import Session, Visit, Wanted
from nas_bo.hardware.runtimes import Runtime, runtime
from nas_bo.hardware.runtimes.onnxruntime import OnnxRuntime
from nas_bo.hardware.workload import Setting
from nas_bo.model import attention, conv, counts, dense
from nas_bo.search_spaces import TinyGPT
from nas_bo.space import Space, choice, integer, repeat, require
from nas_bo.workflows.evaluation_store import Lines
from nas_bo.workflows.profile import profile

TAUGHT, ASKED, FIRST = 20, 30, 10
DRAWS = 20
PHASES = ("prefill", "decode")


class Middle(Space):
    """10 to 50 million parameters."""

    depth = integer(5, 16)
    width = choice(384, 512)
    layers = repeat(
        depth,
        mixer=choice(attention(heads=8, kv_group=choice(1, 4), head_dim=64), conv(kernel=4)),
        mlp=dense(ratio=choice(2, 3, 4), gated=True),
    )

    @require
    def ten_to_fifty_million(arch: Architecture) -> bool:
        return 10e6 <= counts.parameters(arch, 256) <= 50e6


SPACES: dict[str, type[Space]] = {"tiny_gpt": TinyGPT, "middle": Middle}
CASES = {
    "cpu": ("tiny_gpt.eager", "tiny_gpt.onnxruntime", "middle.eager", "middle.onnxruntime"),
    "cuda": ("tiny_gpt.cuda-graphs", "middle.cuda-graphs", "tiny_gpt.eager", "middle.eager"),
}
# half widths at which a measurement is settled, and caps in seconds per architecture, setting and session
EFFORT = {
    "cpu": {"tiny_gpt": (0.008, 1.0, 3), "middle": (0.01, 1.6, 2)},
    "cuda": {"tiny_gpt": (0.01, 0.3, 3), "middle": (0.01, 0.3, 2)},
}


class Prepared:
    """A runtime that makes each architecture ready once, for both sessions."""

    def __init__(self, inner: Runtime) -> None:
        self._inner, self._made = inner, {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def prepare(self, arch: Any, setting: Setting) -> Any:
        if (arch, setting) not in self._made:
            self._made[arch, setting] = self._inner.prepare(arch, setting)
        return self._made[arch, setting]


def chosen(space: str, count: int | None) -> tuple[list[Architecture], list[Architecture]]:
    """The taught and the asked; the latter are drawn as `sample` does, from other seeds."""
    many = pool(SPACES[space], 200, seed=0)
    settings = [Setting(phase) for phase in PHASES]
    taught = informative(many, TAUGHT if count is None else count, settings, Roofline())
    others = [arch for arch in pool(SPACES[space], 200, seed=1) if arch not in taught]
    return taught, others[: ASKED if count is None else count]


def runtime_of(case: str, asked: argparse.Namespace) -> Runtime:
    name = case.partition(".")[2]
    if name == "onnxruntime":
        return OnnxRuntime(exports=str(asked.work / "exports"))
    return runtime(name, asked.torch_device)


def measured(case: str, asked: argparse.Namespace, kept: Lines) -> dict[str, Any]:
    """One case: both sessions, the table of parts, and what the models make of it."""
    start = time.perf_counter()
    space = case.partition(".")[0]
    taught, others = chosen(space, asked.count)
    runs = runtime_of(case, asked)
    if space == "tiny_gpt":
        runs = Prepared(runs)
    precision, seconds, repeats = EFFORT[asked.torch_device][space]
    how = {"clock": "cpu", "precision": precision, "max_seconds": seconds, "repeats": repeats, "hold_bytes": 6e9}
    settings = [Setting(phase) for phase in PHASES]

    def session(name: str, archs: list[Any], seed: int, only: list[Setting] = settings, **more: Any) -> Any:
        visits, sessions, count = [], [], 0
        while (row := kept.get(f"{case} {name} {count}")) is not None:
            visits += [Visit(*one) for one in row["visits"]]
            sessions += [row["session"]] * (1 + max(v[1] for v in row["visits"]) - len(sessions))
            count += 1

        def keep(number: int, fresh: Any) -> None:
            nonlocal count
            kept.put(f"{case} {name} {count}", {"session": number, "visits": [list(v) for v in fresh]})
            count += 1

        def say(done: int, of: int) -> None:
            if time.perf_counter() - say.last > 10:  # type: ignore[attr-defined]
                sys.stderr.write(f"{case} {name}: {done} of {of}, {time.perf_counter() - start:.0f} s\n")
                say.last = time.perf_counter()  # type: ignore[attr-defined]

        say.last = time.perf_counter()  # type: ignore[attr-defined]
        made = Session(runs, archs[:3], seed=seed, before=visits, sessions=sessions, **{**how, **more})  # type: ignore[arg-type]
        outcome = made.measure([Wanted(arch, s) for s in only for arch in archs], keep, say)
        sys.stderr.write(f"{case} {name}: {outcome.seconds:.0f} s, {outcome.drift}\n")
        return outcome

    first = session("first", [*taught, *others], 1)
    second = session("second", others, 2)
    found: dict[str, Any] = {
        "case": case,
        "architectures": {"taught": len(taught), "asked": len(others)},
        "parameters": [min(_sizes(others)), max(_sizes(others))],
        "conditions": runs.conditions(),
        "drift": {"first": str(first.drift), "second": str(second.drift)},
    }
    device = asked.device
    for setting in settings:

        def times(outcome: Any, archs: list[Architecture], setting: Setting = setting) -> np.ndarray:
            return np.array([outcome.measured[Wanted(a, setting).key].median_ms for a in archs])

        table = None
        if asked.lookup:

            def timer(models: Any, setting: Setting = setting) -> list[float]:
                got = session(
                    f"parts of {setting.phase}", list(models), 3, [setting], max_seconds=seconds / 3, precision=0.02
                )
                return [got.measured[Wanted(one, setting).key].median_ms for one in models]

            table = Lookup.build([*taught, *others], setting, timer).table
        teach, truth, again = times(first, taught), times(first, others), times(second, others)
        row: dict[str, Any] = {
            "ms": [round(float(truth.min()), 4), round(float(truth.max()), 4)],
            "agreement": agreement(truth, again),
            "measured": _effort(first, [*taught, *others], setting),
            "predicted": predictions(device, setting, taught, teach, others, truth, again, table),
            "random_draws": drawn(device, setting, [*taught, *others], np.concatenate([teach, truth])),
        }
        if table is not None:
            row["parts_in_table"] = len(table)
        found[setting.phase] = row
    found["seconds"] = round(time.perf_counter() - start, 1)
    return found


def agreement(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """Of two independent measurements of the same architectures, before and after one drift factor."""
    factor = float(np.median(second / first))
    raw, tau = scored(second, first)
    return {
        "tau": round(tau, 4),
        "mape_percent": round(raw, 3),
        "drift_factor": round(factor, 4),
        "mape_percent_after_factor": round(scored(second / factor, first)[0], 3),
    }


def predictions(
    device: Device, setting: Setting, taught: list[Architecture], teach: np.ndarray, others: list[Architecture],
    truth: np.ndarray, again: np.ndarray, table: Any,
) -> dict[str, Any]:  # fmt: skip
    """Error and rank of each model on the asked architectures, in the same session and in the other one."""
    found: dict[str, Any] = {}
    factor = float(np.median(again / truth))
    for name, fit in fits(device, setting, table).items():
        n = FIRST if name == "roofline" else len(taught)
        mean, half = fit(taught[:n], list(teach[:n]))(others)
        error, tau = scored(mean, truth)
        found[name] = {
            "taught": min(n, len(taught)),
            "mape_percent": round(error, 3),
            "tau": round(tau, 4),
            "other_session_mape_percent": round(scored(mean * factor, again)[0], 3),
            "other_session_tau": round(scored(mean, again)[1], 4),
            "inside_90": round(float(np.mean(np.abs(truth - mean) <= half)), 3) if np.isfinite(half).all() else None,
        }
    return found


def drawn(device: Device, setting: Setting, archs: list[Architecture], times: np.ndarray) -> dict[str, Any]:
    """The same from architectures taught at random, for the spread."""
    found: dict[str, Any] = {}
    taught = min(TAUGHT, len(archs) // 2)
    for name, fit in fits(device, setting).items():
        errors, taus = [], []
        for draw in range(DRAWS):
            order = np.random.default_rng(draw).permutation(len(archs))
            teach, ask = order[: FIRST if name == "roofline" else taught], order[taught:]
            mean, _ = fit([archs[i] for i in teach], list(times[teach]))([archs[i] for i in ask])
            error, tau = scored(mean, times[ask])
            errors.append(error)
            taus.append(tau)
        found[name] = {
            "mape_percent": {"mean": round(float(np.mean(errors)), 3), "sd": round(float(np.std(errors, ddof=1)), 3), "worst": round(max(errors), 3)},
            "tau": {"mean": round(float(np.mean(taus)), 4), "least": round(min(taus), 4)},
        }  # fmt: skip
    return found


def speed(device: Device, archs: list[Architecture], times: np.ndarray) -> dict[str, float]:
    """CPU time of answers of a learned model about fresh architecture objects."""
    model = Learned(device, Setting(), archs, list(times))
    asked = [TinyGPT.sample(seed) for seed in range(2_000)]
    model.predict_many(asked)
    start = time.process_time()
    model.predict_many(asked * 5)
    many = time.process_time() - start
    start = time.process_time()
    for arch in asked:
        model.predict(arch)
    return {"many_10000_s": round(many, 4), "one_us": round((time.process_time() - start) / len(asked) * 1e6, 2)}


def _effort(outcome: Any, archs: list[Architecture], setting: Setting) -> dict[str, Any]:
    rows = [outcome.measured[Wanted(a, setting).key] for a in archs]
    half = [(m.high_ms - m.low_ms) / 2 / m.median_ms for m in rows]
    return {
        "repeats": float(np.median([m.repeats for m in rows])),
        "half_width_percent": round(100 * float(np.median(half)), 2),
        "settled": sum(m.settled for m in rows),
        "wall_ratio": round(float(np.median([m.wall_ratio for m in rows])), 3),
        "clock": rows[0].clock,
    }


def _sizes(archs: list[Architecture]) -> list[int]:
    return [counts.parameters(arch, 256) for arch in archs]


def prepare(asked: argparse.Namespace) -> None:
    """Export what ONNX Runtime will need, and nothing else."""
    from nas_bo.hardware.latency.lookup import _timed
    from nas_bo.hardware.runtimes.exported import function, kept_file, to_onnx
    from nas_bo.hardware.workload import parts, specified

    for case in asked.case:
        space, _, name = case.partition(".")
        if name != "onnxruntime":
            continue
        taught, others = chosen(space, asked.count)
        models: list[Any] = [*taught, *others]
        if asked.lookup:
            found = dict.fromkeys(p for a in models for p in parts(specified(a, Setting())))
            models += dict.fromkeys(model for part in found for model in _timed(part))
        for number, model in enumerate(models):
            for setting in (Setting(phase) for phase in PHASES):
                path = kept_file(str(asked.work / "exports"), model, setting)
                if path is not None and not path.exists():
                    to_onnx(function(model, setting, "cpu", name), name, path)
            sys.stderr.write(f"{case}: exported {number + 1} of {len(models)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--device", dest="torch_device", default="cpu", choices=CASES)
    parser.add_argument("--case", action="append", help=f"repeatable; default: all of {CASES}")
    parser.add_argument("--prepare", action="store_true", help="only export models for ONNX Runtime")
    parser.add_argument("--no-lookup", dest="lookup", action="store_false", help="leave the tables of parts out")
    parser.add_argument("--count", type=int, help="architectures taught and asked; default: 20 and 30")
    parser.add_argument("--work", type=Path, default=Path("hardware_here"), help="folder for exports and what is kept")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    known = CASES[asked.torch_device]
    asked.case = asked.case or list(known)
    if not {*asked.case} <= {*known}:
        parser.error(f"--case {' '.join(asked.case)}: with --device {asked.torch_device} there are {', '.join(known)}")
    here = "here" if asked.torch_device == "cpu" else asked.torch_device
    asked.out = asked.out or RESULTS / f"hardware_{here}.json"
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.prepare:
        prepare(asked)
        return
    kept = Lines(asked.work / "kept.jsonl")
    if kept.get("device") is None:
        kept.put("device", Device.here(asked.torch_device).to_dict())
    asked.device = Device.from_dict(kept.get("device"))
    for case in asked.case:
        if kept.get(f"done {case}") is None:
            kept.put(f"done {case}", measured(case, asked, kept))
            store(asked, kept)
    if kept.get("profile") is None and asked.torch_device == "cpu":
        started = time.perf_counter()
        made = profile(TinyGPT, asked.work / "device.json", device=asked.torch_device, clock="cpu")
        seconds = round(time.perf_counter() - started, 1)
        kept.put("profile", {"architectures": 30, "seconds": seconds, "quality": [vars(q) for q in made.quality]})
    if kept.get("speed") is None and asked.torch_device == "cpu":
        archs = pool(TinyGPT, TAUGHT, seed=3)
        size = np.array([counts.flops(a, 256, 128) for a in archs], dtype=float)
        kept.put("speed", speed(asked.device, archs, size / 5e10))
    store(asked, kept)


def store(asked: argparse.Namespace, kept: Lines) -> None:
    machine = {"load": [round(x, 2) for x in os.getloadavg()], "torch": torch.__version__}
    report = {
        "device": kept.get("device"),
        "cases": [row for case in CASES[asked.torch_device] if (row := kept.get(f"done {case}")) is not None],
        "profile": kept.get("profile"),
        "speed_cpu_time": kept.get("speed"),
    }
    what = "measuring twice and predicting latencies on this machine; one thread; MAPE in percent, Kendall tau"
    write(envelope(what, "torch", device=asked.torch_device, machine=machine, **report), asked.out.absolute())


if __name__ == "__main__":
    main()
