"""A trained model in a folder, made smaller: pruned, trained on, given zeros, quantized; each step with what it costs on held-out text.

The folder that is written is one as `nas-bo train` writes (`nas_bo.export.folder`); its ``model.json`` has the report under
"compression", its ``README.md`` the same as a table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import torch

from nas_bo import foreign_recipe
from nas_bo.architecture import Architecture
from nas_bo.compress.held_out_loss import HeldOut, held_out
from nas_bo.compress.importance import METHODS
from nas_bo.compress.pruning import SHARE, prune
from nas_bo.compress.quantization import Bits, QuantizedModel, assigned, quantize
from nas_bo.compress.sparsity import METHODS as SPARSE
from nas_bo.compress.sparsity import PATTERN, sparsify
from nas_bo.errors import CompressError, ExportError
from nas_bo.export import folder as files
from nas_bo.export.card import card
from nas_bo.export.token_roles import files_of
from nas_bo.foreign_recipe import Allow
from nas_bo.model.blocks.block import Prunable
from nas_bo.model.blocks.table import block_of
from nas_bo.model.data import Corpus
from nas_bo.model.decoder import Decoder
from nas_bo.model.distillation import Teaching, as_distillation
from nas_bo.model.packed import INTEGERS
from nas_bo.model.schedule import DEFAULTS
from nas_bo.model.training import Training
from nas_bo.model.training_loop import Progress
from nas_bo.objective import ReadsText
from nas_bo.settings import settings_of, takes
from nas_bo.validated import check_fields, checked, number, one_of, whole_number
from nas_bo.wording import counted

RECOVERY = 0.3
"""The learning rate of training on, as a share of that of the first training."""
LEAST_TOKENS = 1_000
Draw = Callable[[Architecture, int, Sequence[str]], str]


class CompressionOptions(TypedDict, total=False):
    """What `compress` takes by name, see `CompressionSettings`."""

    bits: Bits | None
    group: int
    method: Literal["rtn", "gptq"]
    symmetric: bool
    activations: int | None
    prune: float
    heads: float
    layers: float
    score: str
    sparsity: float | str | None
    sparse_method: Literal["wanda", "sparsegpt", "weight"]
    tokens: float
    teacher: Teaching | None
    lr: float | None
    seed: int


@dataclass(frozen=True)
class CompressionSettings:
    """What is done to a model, in the order: prune, train on, zeros, quantize.

    Args:
        bits, group, method, symmetric, activations: of `nas_bo.compress.quantize`; `bits` None leaves the weights as they are.
        prune: the share of channels of dense MLPs, and of experts of mixtures, that goes.
        heads, layers: likewise; see `nas_bo.compress.prune`.
        score: how units are scored, see `nas_bo.compress.importances`.
        sparsity, sparse_method: of `nas_bo.compress.sparsify`; None makes no zeros.
        tokens: training after pruning; 0 is none.
        teacher: what that training learns from in addition to the text, as in `nas_bo.model.train`: the folder of a trained model, such as the
            one that is made smaller.
        lr: of that training; None is 0.3 of that of the first one.
        seed: of the order of its text.

    Raises:
        CompressError: a value is out of range.
    """

    bits: Bits | None = None
    group: int = checked(32, whole_number(1))
    method: Literal["rtn", "gptq"] = checked("gptq", one_of("rtn", "gptq"))
    symmetric: bool = checked(False, one_of(False, True))
    activations: int | None = checked(None, one_of(None, 8))
    prune: float = checked(0.0, SHARE.advise("0.5 takes half of the channels away"))
    heads: float = checked(0.0, SHARE)
    layers: float = checked(0.0, SHARE)
    score: str = checked("wanda", one_of(*METHODS, "random"))
    sparsity: float | str | None = None
    sparse_method: Literal["wanda", "sparsegpt", "weight"] = checked("wanda", one_of(*SPARSE))
    tokens: float = checked(0.0, number(at_least=0))
    teacher: Teaching | None = None
    lr: float | None = checked(None, number(above=0).or_none())
    seed: int = checked(0, whole_number(0))

    def __post_init__(self) -> None:
        check_fields(self, CompressError, "compress")
        said = number(above=0, below=1).advise('it is a share of the weights, or "2:4"')
        if self.sparsity not in (None, PATTERN):
            said.verify("compress", "sparsity", self.sparsity, CompressError)
        if 0 < self.tokens < LEAST_TOKENS:
            raise CompressError(
                f"compress(tokens={self.tokens:g}): tokens must be 0, or a number of at least {LEAST_TOKENS:,}; 1e6 is usual"
            )
        if self.teacher is not None and not self.tokens:
            raise CompressError(
                "compress(teacher=...): a teacher teaches while the model is trained on, and tokens is 0; give a number of tokens, such as "
                "tokens=1e6 (--tokens), or leave the teacher out"
            )
        if self.lr is not None and not self.tokens:
            raise CompressError(
                f"compress(lr={self.lr:g}): that is the rate at which the model is trained on, and tokens is 0; give a number of tokens, such as "
                "tokens=1e6 (--tokens), or leave the rate out"
            )
        asked = (self.activations, self.sparsity)
        kept = self.bits is None or self._widths() == {32}
        if kept and not any(one is not None for one in asked) and not self._removes() and not self.tokens:
            leaves = "" if self.bits is None else "32 bits leave a weight as it is, and nothing else is asked for; "
            raise CompressError(
                f"compress({'' if self.bits is None else f'bits={self.bits!r}'}): {leaves or 'nothing is asked for; '}give bits, such as bits=4, "
                "a share of channels to remove, such as prune=0.5, or both (--bits, --prune)"
            )
        self._check_effect()

    def _widths(self) -> set[int]:
        """The bits that are named."""
        named = self.bits.values() if isinstance(self.bits, Mapping) else [self.bits]
        return {one for one in named if isinstance(one, int)}

    def _removes(self) -> bool:
        return any((self.prune, self.heads, self.layers))

    def _check_effect(self) -> None:
        """Refuse what would change nothing (raises CompressError)."""
        integers = bool(self._widths() & set(INTEGERS))
        few = "and no weight is asked to have 8 bits or fewer; give bits, such as bits=4 (--bits)"
        goes = "and nothing is to be removed; give a share, such as prune=0.5 (--prune)"
        cases = {
            "group": (integers, f"that many columns share a scale where weights are rounded, {few}"),
            "method": (integers, f"that is how weights are rounded, {few}"),
            "symmetric": (integers, f"that is how weights are rounded, {few}"),
            "activations": (integers, f"what matrices of 8 bits or fewer are given is rounded, {few}"),
            "score": (self._removes(), f"that is how units are scored before some of them are removed, {goes}"),
            "sparse_method": (self.sparsity is not None, "that is how the weights are chosen that become zero, and sparsity is not given; give one, such as sparsity=0.5 (--sparsity)"),
            "seed": (self.tokens > 0, "that is of the order of the text when the model is trained on, and tokens is 0; give a number of tokens, such as tokens=1e6 (--tokens)"),
        }  # fmt: skip
        for field in fields(self):
            has_effect, why = cases.get(field.name, (True, ""))
            value = vars(self)[field.name]
            if not has_effect and value != field.default:
                raise CompressError(f"compress({field.name}={value!r}): {why}, or leave it out")


@dataclass(frozen=True)
class Step:
    """A step of a compression.

    Attributes:
        name: what was done.
        loss, low, high: on held-out text, with the 95 % interval over texts of this kind.
        cost, cost_low, cost_high: how much more than before this step, window by window; 0 of the first.
        nbytes: of all weights as they are stored.
    """

    name: str
    loss: float
    low: float
    high: float
    cost: float
    cost_low: float
    cost_high: float
    nbytes: int
    parameters: int


@dataclass(frozen=True)
class Compressed:
    """A folder with a smaller model.

    Attributes:
        about: what its ``model.json`` says.
        steps: what was done, the model as it was first.
        unit: of the losses.
        remarks: what the reader should know about it.
    """

    folder: Path
    about: Mapping[str, Any]
    steps: Sequence[Step]
    unit: str
    remarks: Sequence[str] = ()

    def __str__(self) -> str:
        lines = [table(self.steps, self.unit), *self.remarks, f"the smaller model is in {self.folder}"]
        return "\n".join(lines)


def table(steps: Sequence[Step], unit: str) -> str:
    """The steps for people, as a Markdown table."""
    lines = [f"| step | held-out loss, {unit} | cost of the step | parameters | bytes |", "|---|---|---|---|---|"]
    for number_of, one in enumerate(steps):
        cost = f"{one.cost:+.4f} ({one.cost_low:+.4f} to {one.cost_high:+.4f})" if number_of else ""
        loss = f"{one.loss:.4f} ({one.low:.4f} to {one.high:.4f})"
        lines.append(f"| {one.name} | {loss} | {cost} | {one.parameters:,} | {one.nbytes:,} |")
    return "\n".join(lines)


@takes(CompressionSettings)
def compress(
    folder: str | Path,
    to: str | Path,
    settings: CompressionSettings | None = None,
    *,
    corpus: Corpus | None = None,
    allow: Allow = (),
    draw: Draw | None = None,
    progress: Progress | None = None,
    **options: Unpack[CompressionOptions],
) -> Compressed:
    """Make the model in `folder`, one of `nas-bo train`, smaller and write it to the folder `to`.

    Args:
        settings: what is done; what is given by name takes precedence.
        corpus: text for calibration, training and the held-out loss; None is that which the model was trained on.
        allow: modules of yours that the folder may import, or a `nas_bo.foreign_recipe.Allowed` with files and budgets as well.
        draw: makes the picture of the new architecture; without it the folder has none where the architecture changed.
        progress: of the training, as of `nas_bo.model.train`.

    Raises:
        CompressError: nothing is asked for, the model cannot be made smaller so, or its text is gone or has changed.
        ExportError: there is no model, it is quantized already, or `to` exists.
    """
    chosen = settings_of(CompressionSettings, "compress", options, settings)
    target = Path(to)
    files.place(target)
    given = files.load(folder)
    if given.about["format"] == files.PACKED:
        raise ExportError(f"the model in {str(folder)!r} is quantized already; compress the one that it was made from")
    _check(given.model, chosen)
    text = _text(given, allow) if corpus is None else corpus
    taught = as_distillation(chosen.teacher)
    if taught is not None:
        taught.check_vocabulary(text.vocab_size, text.name, text.tokenizer)
    work = _Work(given.model, given.architecture, text, given.about.get("settings", {}))
    work.note("the trained model")
    work.run(chosen, progress)
    about = _about(given.about, work, chosen)
    _write(target, given, work, about, draw)
    return Compressed(target, about, work.steps, work.unit, work.remarks)


def _check(model: Decoder, chosen: CompressionSettings) -> None:
    """What can be refused before anything is computed (raises CompressError)."""
    if chosen.bits is not None and not chosen.layers:
        assigned(model, chosen.bits)
    if chosen.prune and not _prunable(model):
        kinds = ", ".join(dict.fromkeys(repr(layer.mlp.kind) for layer in model.spec.layers))
        raise CompressError(
            f"compress(prune={chosen.prune:g}): the model has no MLP whose channels or experts could go, its kinds are {kinds}; take "
            "heads or layers away (--heads, --layers), or use fewer bits"
        )


def _prunable(model: Decoder) -> list[str]:
    """Of "channels" and "experts", what MLPs of the model can lose."""
    frame = model.spec.frame
    found = {
        unit: None
        for layer in model.spec.layers
        if isinstance(block := block_of(layer.mlp), Prunable)
        for unit in block.units(layer.mlp, frame)
    }
    return [unit for unit in found if unit in ("channels", "experts")]


def _text(given: files.TrainedModel, allow: Allow) -> Corpus:
    """The text that the model was trained on (raises CompressError)."""
    described = given.about.get("objective")
    if described is None:
        raise CompressError(
            f"the model in {str(given.folder)!r} does not say which text it was trained on; give one with corpus= (--data)"
        )
    objective = foreign_recipe.rebuild(described, allow, f"the folder {str(given.folder)!r}")
    if not isinstance(objective, ReadsText):
        raise CompressError(
            f"the model in {str(given.folder)!r} was trained by {type(objective).__name__}, which reads no text of nas_bo; give one "
            "with corpus= (--data)"
        )
    corpus: Corpus = objective.corpus()
    before = given.about.get("corpus", {}).get("sha256")
    if before not in (None, corpus.fingerprint):
        raise CompressError(
            f"the text of the model in {str(given.folder)!r} has changed: its tokens had the sha256 {str(before)[:12]}... and have "
            f"{corpus.fingerprint[:12]}... now ({corpus.name!r}); put the text back, or give another with corpus= (--data)"
        )
    return corpus


class _Work:
    """A model on its way, with what was done so far."""

    def __init__(self, model: Decoder, arch: Architecture, corpus: Corpus, trained: Mapping[str, float]) -> None:
        self.model, self.architecture, self.corpus = model, arch, corpus
        self.recipe = {name: value for name, value in trained.items() if name in DEFAULTS}
        self.quantized: QuantizedModel | None = None
        self.steps: list[Step] = []
        self.remarks: list[str] = []
        self.unit = corpus.unit
        self._last: HeldOut | None = None

    def note(self, name: str) -> None:
        """Evaluate the model as it is now."""
        sequence = int(self.recipe.get("sequence", DEFAULTS["sequence"]))
        now = held_out(self.model, self.corpus, sequence=sequence)
        cost = (0.0, 0.0, 0.0) if self._last is None else now.cost(self._last)
        weights = list(self.model.parameters())
        nbytes = sum(w.numel() * w.element_size() for w in weights) if self.quantized is None else self.quantized.nbytes
        self._last = now
        self.steps.append(Step(name, now.mean, *now.interval, *cost, nbytes, sum(w.numel() for w in weights)))

    def run(self, chosen: CompressionSettings, progress: Progress | None) -> None:
        if chosen.prune or chosen.heads or chosen.layers:
            self._prune(chosen)
        if chosen.tokens:
            self._train(chosen, progress)
        if chosen.sparsity is not None:
            made = sparsify(self.model, chosen.sparsity, chosen.sparse_method, self.corpus)  # type: ignore[arg-type]
            self.model = made.model
            self.remarks += [made.worth(), made.worth("cuda")]
            self.note(f"zeros: {chosen.sparsity} by {chosen.sparse_method}")
        if chosen.bits is not None or chosen.activations is not None:
            self.quantized = quantize(
                self.model, 32 if chosen.bits is None else chosen.bits, chosen.group, chosen.method, self.corpus,
                symmetric=chosen.symmetric, activations=chosen.activations,
            )  # fmt: skip
            self.model = self.quantized.model
            if self.quantized.unseen:
                self.remarks.append(
                    f"without inputs in the calibration text, rounded to the nearest: {', '.join(self.quantized.unseen)}"
                )
            more = ", activations of 8 bits" if chosen.activations else ""
            self.note(f"{self.quantized.bits_per_weight:.2f} bits a weight by {chosen.method}{more}")

    def _prune(self, chosen: CompressionSettings) -> None:
        shares = dict.fromkeys(_prunable(self.model), chosen.prune)
        made = prune(
            self.model, shares.get("channels", 0.0), chosen.heads, shares.get("experts", 0.0), chosen.layers,
            chosen.score, self.corpus,  # type: ignore[arg-type]
        )  # fmt: skip
        self.architecture = made.architecture(self.architecture)
        self.model = made.model
        said = {**shares, "heads": chosen.heads, "layers": chosen.layers}
        self.note("without " + ", ".join(f"{100 * share:.4g}% of {unit}" for unit, share in said.items() if share))

    def _train(self, chosen: CompressionSettings, progress: Progress | None) -> None:
        lr = chosen.lr if chosen.lr is not None else RECOVERY * self.recipe.get("lr", DEFAULTS["lr"])
        settings = {**self.recipe, "lr": lr}
        made = Training(
            self.model, self.corpus, chosen.tokens, chosen.seed,
            settings=settings, progress=progress, teacher=chosen.teacher,
        ).to()  # fmt: skip
        self.model = made.model
        taught = as_distillation(chosen.teacher)
        by = "" if taught is None else f" with {taught.called()} as teacher"
        self.note(f"trained on {counted(made.tokens, 'token')}{by}")


def _about(before: Mapping[str, Any], work: _Work, chosen: CompressionSettings) -> dict[str, object]:
    """What ``model.json`` says."""
    old = {
        name: value
        for name, value in before.items()
        if name not in ("samples", "curve", "format", "ignore", "vocab_size")
    }
    name = next(iter(before.get("values", {})), "bits_per_byte" if work.unit == "bits/byte" else "val_loss")
    last = work.steps[-1]
    compression = {
        "settings": _said(chosen),
        "unit": work.unit,
        "corpus": {"name": work.corpus.name, "sha256": work.corpus.fingerprint},
        "steps": [asdict(step) for step in work.steps],
        "remarks": list(work.remarks),
    }
    found = {
        **old,
        "architecture": work.architecture.id,
        "values": {name: last.loss},
        "units": {name: work.unit},
        "parameters": last.parameters,
        "compression": compression,
    }
    if work.quantized is not None:
        found |= {"format": files.PACKED, "quantization": work.quantized.about()}
    return found


def _said(chosen: CompressionSettings) -> dict[str, Any]:
    """The settings as JSON, without those that are None."""
    found = {one.name: getattr(chosen, one.name) for one in fields(chosen) if one.name not in ("teacher", "bits")}
    taught = as_distillation(chosen.teacher)
    bits = dict(chosen.bits) if isinstance(chosen.bits, Mapping) else chosen.bits
    more = {"bits": bits, "teacher": None if taught is None else taught.conditions()}
    return {name: value for name, value in {**found, **more}.items() if value is not None}


def _write(target: Path, given: files.TrainedModel, work: _Work, about: dict[str, object], draw: Draw | None) -> None:
    """Write the folder, and read it back (raises ExportError where that gives another model)."""
    from safetensors.torch import save

    ignore = given.ignore
    content = files.files(work.model, work.architecture, about, ignore)
    if work.quantized is not None:
        content[files.WEIGHTS] = save(
            work.quantized.state(), metadata={"format": "pt", "architecture": work.architecture.id}
        )
    picture = b""
    if draw is not None:
        picture = draw(work.architecture, work.model.vocab_size, ignore).encode()
    elif work.architecture == given.architecture and (given.folder / files.DRAWING).is_file():
        picture = (given.folder / files.DRAWING).read_bytes()
    use = f'```console\n$ nas-bo generate {target.name} "def "\n```\n'
    extra = "## How it was made smaller\n\n" + table(work.steps, work.unit) + "\n"
    extra += "".join(f"\n{one[0].upper()}{one[1:]}.\n" for one in work.remarks)
    said = card(about, use, extra)
    if not picture:
        said = said.replace(f"![the architecture]({files.DRAWING})\n", "")
    more = {files.CARD: said.encode(), **({files.DRAWING: picture} if picture else {})}
    more |= files_of(given.tokenizer)
    draft = target.with_name(f"{target.name}.unverified")
    files.write(draft, {**more, **content})
    there = files.load(draft).model
    tokens = torch.arange(16).remainder(work.model.vocab_size).unsqueeze(0)
    with torch.inference_mode():
        if not torch.equal(there(tokens), work.model.cpu()(tokens)):
            raise ExportError(
                f"the model that was written to {str(draft)!r} does not compute what was quantized, so it is not handed over; please "
                "report this"
            )
    draft.replace(target)
