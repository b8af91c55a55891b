"""A run of a decoder that is larger than one GPU: several processes, each with a GPU of its own (`nas_bo.model.sharding`).

They are started for each piece of the run and end with it; between pieces its state is a checkpoint, the caller's or a temporary one, in
the form that one process writes. Run as a module this file is one of them.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from nas_bo import measurement_lock, temporary
from nas_bo.architecture import Architecture, Node
from nas_bo.errors import ModelError, NasBoError
from nas_bo.model.blocks.block import Sparse
from nas_bo.model.blocks.table import block_of
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.schedule import settings_of
from nas_bo.model.sharding import Shard
from nas_bo.model.spec import DecoderSpec, check, own_blocks
from nas_bo.model.training_settings import TrainingSettings

if TYPE_CHECKING:
    from nas_bo.model.training import TrainingResult

LOOK_EVERY_S = 0.05
END_WITHIN_S = 2.0  # the others, when one has failed: they wait for it


@dataclass(frozen=True)
class Job:
    """A piece of a run: what each of the processes is given. Its checkpoint is in the settings."""

    arch: Architecture | Node
    corpus: Corpus
    tokens: float
    seed: int
    settings: TrainingSettings
    share: float
    gate: Path | None


class ShardedTraining:
    """What `nas_bo.model.Training` is, for `gpus_per_trial` processes: the same batches, the same loss within rounding.

    Attributes:
        done: the share of the run that is trained, as far as this object has trained it.

    Raises:
        ModelError: what does not go together with several processes, or there are not so many GPUs.
    """

    def __init__(
        self, arch: Architecture | Node | Decoder, corpus: Corpus, tokens: float, seed: int, settings: TrainingSettings
    ) -> None:
        self._arch, spec = _checked(arch, settings)
        _check_devices(settings)
        batch = int(settings_of(arch, settings.recipe())["batch_size"])
        if batch % settings.gpus_per_trial:
            raise ModelError(
                f"gpus_per_trial={settings.gpus_per_trial} with batch_size={batch}: each process takes as many rows of a batch; give a "
                "batch_size that it divides"
            )
        self._corpus, self._tokens, self._seed, self._settings, self._spec = corpus, tokens, seed, settings, spec
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._found: dict[float, TrainingResult] = {}
        self.done = 0.0

    def measured(self, share: float) -> TrainingResult | None:
        """As of `Training`."""
        return self._found.get(share)

    def to(self, share: float = 1.0) -> TrainingResult:
        """As of `Training`; the model of the result is whole, and on the CPU.

        Raises:
            ModelError: a process has ended without a word; what one raises is raised here.
        """
        checkpoint = self._settings.checkpoint
        if checkpoint is None:
            if self._folder is None:
                self._folder = temporary.made("run")
            checkpoint = Path(self._folder.name) / "run.pt"
        settings = replace(self._settings, checkpoint=checkpoint, progress=None)
        job = Job(self._arch, self._corpus, self._tokens, self._seed, settings, share, measurement_lock.joined_folder())
        with temporary.folder("shards") as folder:
            (folder / "job").write_bytes(pickle.dumps(job))
            self._run(folder)
            result: TrainingResult = pickle.loads((folder / "result").read_bytes())
            model = Decoder(self._spec._replace(after=None), self._corpus.vocab_size)
            model.load_state_dict(torch.load(folder / "model", weights_only=True))
        result = replace(result, model=model.eval())
        self.done = result.share
        self._found[share] = result
        return result

    def _run(self, folder: Path) -> None:
        """Start the processes, and wait for them; none outlives this process."""
        count, said = self._settings.gpus_per_trial, ""
        ranks = [
            subprocess.Popen(
                [sys.executable, "-m", "nas_bo.model.sharded_training", str(folder), str(rank), str(count)],
                stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
            )
            for rank in range(count)
        ]  # fmt: skip
        try:
            while any(one.poll() is None for one in ranks):
                said = self._tell(folder, said)
                if any(one.poll() for one in ranks):
                    break
                time.sleep(LOOK_EVERY_S)
            self._tell(folder, said)
            until = time.monotonic() + END_WITHIN_S
            for one in ranks:
                with suppress(subprocess.TimeoutExpired):
                    one.wait(max(0.0, until - time.monotonic()))
        finally:
            for one in ranks:
                one.kill()
                one.communicate()
        errors = sorted(folder.glob("error-*"), key=lambda path: path.stat().st_mtime_ns)
        for path in errors:
            error = pickle.loads(path.read_bytes())
            if isinstance(error, NasBoError) or path == errors[-1]:
                raise error
        if bad := [(rank, one.returncode) for rank, one in enumerate(ranks) if one.returncode]:
            raise ModelError(
                f"process {bad[0][0]} of the {count} that train this candidate ended with exit code {bad[0][1]} and said no reason: out of "
                "memory, killed from outside, or a crash in native code"
            )

    def _tell(self, folder: Path, said: str) -> str:
        """Hand on how far the first process says it is, where that is new."""
        progress = self._settings.progress
        if progress is None or not (folder / "progress").exists():
            return said
        now = (folder / "progress").read_text()
        if now != said:
            step, steps, nats = now.split()
            progress(int(step), int(steps), float(nats))
        return now


def _checked(
    arch: Architecture | Node | Decoder, settings: TrainingSettings
) -> tuple[Architecture | Node, DecoderSpec]:
    """Raises ModelError for what several processes cannot train as one."""
    given: Mapping[str, object] = {"build": settings.build, "teacher": settings.teacher}
    for name, value in given.items():
        if value is not None:
            raise ModelError(
                f"gpus_per_trial={settings.gpus_per_trial} with {name}=...: only decoders of nas_bo that learn from text are trained by several "
                "processes; leave one of them out"
            )
    if isinstance(arch, Decoder):
        raise ModelError(
            f"gpus_per_trial={settings.gpus_per_trial} with a Decoder, whose weights are in this process; give its architecture"
        )
    spec = check(arch, settings.ignore)
    check_rows_apart(spec, settings.gpus_per_trial)
    return arch, spec


def check_rows_apart(spec: DecoderSpec, gpus: int) -> None:
    """Raises ModelError where what is trained on is not the mean over the rows of a batch, so that processes cannot share them."""
    if own := own_blocks(spec):
        raise ModelError(
            f"gpus_per_trial={gpus}: {type(own[0]).__name__} is a block of your own, and whether it computes each row of a batch by itself is not "
            "known; train it on one GPU"
        )
    if any(isinstance(block_of(one), Sparse) for layer in spec.layers for one in layer):
        raise ModelError(
            f"gpus_per_trial={gpus} with a mixture of experts: its balance loss is of the whole batch, of which each process has a part, so the "
            "loss would be another one; train it on one GPU"
        )


def _check_devices(settings: TrainingSettings) -> None:
    """Raises ModelError where there are fewer GPUs than processes."""
    device, asked = settings.device, settings.gpus_per_trial
    if device is None or str(device) == "cuda":
        there = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if there < asked:
            raise ModelError(
                f"gpus_per_trial={asked}, and this process sees {there}: give an evaluation more of them (Ray(num_gpus={asked}), "
                "CUDA_VISIBLE_DEVICES), ask for fewer, or try it on processors with device='cpu'"
            )
    elif str(device) != "cpu":
        raise ModelError(f"gpus_per_trial={asked} with device={str(device)!r}: give 'cuda' or 'cpu', not one of them")


# ---- one of the processes ---------------------------------------------------------------------------------------------


def _main(folder: Path, rank: int, count: int) -> None:
    threading.Thread(target=_follow, daemon=True).start()
    try:
        _train(folder, rank, count)
    except BaseException as error:
        draft = folder / f"draft-{rank}"
        try:
            draft.write_bytes(pickle.dumps(error))
            pickle.loads(draft.read_bytes())
        except Exception:
            draft.write_bytes(pickle.dumps(ModelError(f"{type(error).__name__}: {error}")))
        draft.rename(folder / f"error-{rank}")
        os._exit(1)  # the others may wait for this one
    os._exit(0)


def _follow() -> None:
    """End with the process that has started this one."""
    sys.stdin.buffer.read()
    os._exit(1)


def _train(folder: Path, rank: int, count: int) -> None:
    from torch import distributed

    from nas_bo.model.training import Training

    job: Job = pickle.loads((folder / "job").read_bytes())
    cuda = str(job.settings.device or "cuda") == "cuda"
    if cuda:
        torch.cuda.set_device(rank)
    elif sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(job.settings.threads or torch.get_num_threads())
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=count
    )
    shard = Shard(torch.device("cuda", rank) if cuda else torch.device("cpu"))
    if shard.first and job.gate is not None:  # the others wait for it in every step
        measurement_lock.join(job.gate)

    def tell(step: int, steps: int, nats: float) -> None:
        with temporary.whole(folder / "progress") as draft:
            draft.write_text(f"{step} {steps} {nats}")

    settings = replace(job.settings, device=shard.device, progress=tell if shard.first else None)
    training = Training(job.arch, job.corpus, job.tokens, job.seed, settings=settings, shard=shard)
    result = training.measured(job.share) or training.to(job.share)
    weights = shard.whole(dict(result.model.state_dict()))
    if shard.first:
        torch.save(weights, folder / "model")
        (folder / "result").write_bytes(pickle.dumps(replace(result, model=None)))  # type: ignore[arg-type]
    distributed.barrier()
    distributed.destroy_process_group()


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
