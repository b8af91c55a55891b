"""A trained model of transformers as a decoder of nas_bo, with equal logits."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nas_bo.architecture import Architecture, Node
from nas_bo.cache_folder import cache_folder
from nas_bo.errors import ExportError, ModelError
from nas_bo.export import folder
from nas_bo.export.huggingface import POSITIONS, imported, without_bars
from nas_bo.export.names import copy_in, names
from nas_bo.export.text import TOKENIZER
from nas_bo.export.token_roles import ALSO, SPLITS, files_of
from nas_bo.model import own_class
from nas_bo.model.device import dtype_of
from nas_bo.model.spec import HYPERPARAMETERS, DecoderSpec, check
from nas_bo.pretrained.configuration import INDEX, SINGLE, Config, Described, described
from nas_bo.validated import check_fields, checked, one_of
from nas_bo.wording import counted, plural

if TYPE_CHECKING:
    from torch import Tensor

    from nas_bo.model.decoder import Decoder
    from nas_bo.pretrained.weights import Weights

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedDecoder:
    """A trained decoder in a folder of Hugging Face: ``config.json``, safetensors (one file or shards), ``tokenizer.json``; a GGUF file,
    which transformers reads; or a folder that `nas-bo train` wrote.

    Nothing is read before it is needed, and nothing is downloaded. Families: `nas_bo.pretrained.configuration.FAMILIES`.

    Args:
        path: the folder, or the GGUF file.
        dtype: of the weights in memory.
        device_map: "disk" keeps the weights in a file of the user's cache folder and in memory only those of the block that runs
            (`nas_bo.pretrained.on_disk`): for models that do not fit, on the CPU.

    Raises:
        ExportError: there is no such folder, it has no configuration, or its weights are pickles or damaged.
        ModelError: a family or an option of it that is not understood, by name.
    """

    path: str
    dtype: Literal["float32", "bfloat16"] = checked("float32", one_of("float32", "bfloat16"))
    device_map: Literal["disk"] | None = checked(None, one_of(None, "disk"))

    def __post_init__(self) -> None:
        check_fields(self, ModelError)
        object.__setattr__(self, "path", str(self.path))
        if self.device_map is not None and (self._gguf or self._ours):
            kind = "a GGUF file, which transformers reads as a whole" if self._gguf else "of nas_bo, read as a whole"
            raise ModelError(
                f"Pretrained(device_map={self.device_map!r}): {self.path!r} is {kind}; give the folder of a model of transformers, whose weights are read "
                "one after the other"
            )
        if not self._gguf and not self._folder.is_dir():
            file = self._folder.is_file()
            what = f"{self.path!r} is a file, not a folder" if file else f"there is no folder {self.path!r}"
            raise ExportError(
                f"{what}; give that of a model of transformers, with config.json and safetensors. Nothing is "
                "downloaded: fetch it first, for example with `hf download`"
            )
        if self._gguf and not self._folder.is_file():
            raise ExportError(
                f"there is no file {self.path!r}; give a GGUF file, or the folder of a model of transformers"
            )
        self._described  # noqa: B018  what cannot be understood is reported at once
        if not self._ours and not self._gguf and not any((self._folder / name).is_file() for name in (INDEX, SINGLE)):
            self._weights()  # says what is there instead

    # ---- what it is ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self._folder.resolve().name

    @property
    def arch(self) -> Node:
        """The decoder, as an architecture written by hand, with a record for each layer."""
        return self._described.arch

    @cached_property
    def spec(self) -> DecoderSpec:
        """The same, checked."""
        return check(self.arch)

    @property
    def home(self) -> str:
        """Its class in transformers, without "ForCausalLM"."""
        return self._described.home

    @property
    def vocab_size(self) -> int:
        return self._described.vocab_size

    @property
    def positions(self) -> int:
        """Tokens that it was made for."""
        return self._described.positions

    @property
    def tokenizer(self) -> str | None:
        """The path of its tokenizer.json; None where bytes are the tokens.

        Raises:
            ExportError: it has a tokenizer, which is not there.
        """
        if self._ours:
            found = folder.tokenizer_of(self._folder, folder.about(self.path), self.vocab_size)
            return None if found is None else str(found)
        path = (self._folder.parent if self._gguf else self._folder) / TOKENIZER
        if self._gguf and not path.is_file():
            return str(self._gguf_tokenizer())
        if not path.is_file():
            raise ExportError(
                f"there is no {TOKENIZER} next to the weights in {str(path.parent)!r}, and other tokens than those it was trained on mean "
                "nothing to a model; copy it there, or convert its tokenizer with transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
            )
        return str(path)

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits of its configuration and of the files of its weights (their names, sizes and first and last bytes):
        what was computed for another model is not taken for this one."""
        said = repr(self.arch) if self._ours else json.dumps(dict(self._config), sort_keys=True, default=str)
        digest = hashlib.sha256(said.encode())
        files = [self._folder] if self._gguf else sorted(self._folder.glob("*.safetensors"))
        for file in files:
            size = file.stat().st_size
            digest.update(f"{file.name} {size}".encode())
            with file.open("rb") as opened:
                for at in range(0, size, max(1 << 20, size // 16)):
                    opened.seek(at)
                    digest.update(opened.read(1 << 16))
        return digest.hexdigest()[:16]

    # ---- its weights ----------------------------------------------------------------------------------------------------

    def model(self) -> Decoder:
        """The decoder with its weights, in evaluation mode on the CPU.

        Raises:
            ExportError: weights that lack, are of other sizes, or that no part of the decoder takes.
            ModelError: they do not fit in memory; it says what would (`nas_bo.pretrained.room`).
        """

        from nas_bo.model.counts import parameters
        from nas_bo.model.decoder import Decoder
        from nas_bo.pretrained.on_disk import Releasing, WeightsOnDisk
        from nas_bo.pretrained.room import check_room, free_bytes
        from nas_bo.pretrained.weights import Weights

        on_disk = self.device_map == "disk"
        size = parameters(
            self.spec if not on_disk else self.spec._replace(layers=self.spec.layers[:1]), self.vocab_size
        )
        check_room(self.name, size, self.dtype, free_bytes(), 2 if self._gguf else 1)
        if self._ours:
            return folder.load(self.path).model.to(dtype_of(self.dtype))
        model, dtype = Decoder(self.spec, self.vocab_size), dtype_of(self.dtype)  # of empty tensors
        disk = WeightsOnDisk(model, self.name, dtype) if on_disk else None
        model = model.to(dtype)
        theirs: Mapping[str, Tensor] = self._gguf_weights() if self._gguf else self._weights()
        table = names(self.home, self._described.heads)
        try:
            copy_in(model, self.spec, theirs if disk is None else Releasing(theirs, disk), table)
        except KeyError as error:
            raise ExportError(f"the weights of {self.name} lack {error}; copy the folder again") from None
        except RuntimeError as error:  # of torch, for shapes
            raise ExportError(
                f"the weights of {self.name} do not have the sizes that its configuration says ({str(error).splitlines()[0]:.120})"
            ) from None
        if isinstance(theirs, Weights) and (left := theirs.left(self.spec.tied)):
            raise ExportError(
                f"{counted(len(left), 'weight')} of {self.name} {plural(len(left), 'has', 'have')} no place in the decoder, such as {left[0]!r}; without them its logits would be "
                "others, so it cannot be taken"
            )
        if disk is not None:
            disk.release()
        return model.eval()

    def _weights(self) -> Weights:
        """The files of its weights, opened (raises ExportError where they are pickles, damaged or not there)."""
        from nas_bo.pretrained.weights import MAPPED, Weights

        return Weights(self._folder, self._described.experts, MAPPED if self.device_map is None else 0)

    def _gguf_weights(self) -> Mapping[str, Tensor]:
        transformers = imported()
        folder, file = str(self._folder.parent), self._folder.name
        with without_bars():
            model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, gguf_file=file, dtype="float32", local_files_only=True
            )
        found: Mapping[str, Tensor] = model.state_dict()
        return found

    def _gguf_tokenizer(self) -> Path:
        """The tokenizer inside a GGUF file as a file of the package tokenizers, made once in the user's cache folder, next to what it
        says about the roles of tokens."""
        path = cache_folder() / f"tokenizer-{self.fingerprint}" / TOKENIZER
        if not path.is_file():
            transformers = imported()
            try:
                found = transformers.AutoTokenizer.from_pretrained(
                    str(self._folder.parent), gguf_file=self._folder.name, local_files_only=True
                )
                text = self._split_as_there(found.backend_tokenizer.to_str())
                with tempfile.TemporaryDirectory() as place:
                    found.save_pretrained(place)
                    content = files_of(Path(place) / TOKENIZER)
            except Exception as error:  # a foreign file: transformers raises all kinds
                raise ExportError(
                    f"transformers cannot read the tokenizer in {self.path!r} ({str(error).splitlines()[0]:.120}); put its {TOKENIZER} next to the file"
                ) from None
            folder.write(path.parent, {**content, TOKENIZER: text.encode()})
        return path

    def _split_as_there(self, text: str) -> str:
        """The JSON of a tokenizer that splits texts as the GGUF file says; transformers takes GPT-2's way for all of them."""
        from gguf import GGUFReader

        fields = GGUFReader(str(self._folder)).fields
        kind, split = (
            fields[name].contents() if name in fields else None
            for name in ("tokenizer.ggml.model", "tokenizer.ggml.pre")
        )
        if kind != "gpt2" or split is None:
            return text
        known = SPLITS.get(ALSO.get(split, split))
        if known is None:
            _log.warning(
                "the tokenizer in %s splits texts in a way called %.40r, which is not known here: some tokens may differ from those the model was "
                "trained on. Put its %s next to the file",
                self.name,
                split,
                TOKENIZER,
            )
            return text
        return json.dumps({**json.loads(text), "pre_tokenizer": known}, ensure_ascii=False)

    # ---- files ---------------------------------------------------------------------------------------------------------

    @property
    def _folder(self) -> Path:
        return Path(self.path)

    @property
    def _ours(self) -> bool:
        return (self._folder / folder.ABOUT).is_file() or own_class.about(self._folder) is not None

    @property
    def _gguf(self) -> bool:
        return self.path.lower().endswith(".gguf")

    @cached_property
    def _config(self) -> Config:
        transformers = imported()
        if not self._gguf and not (self._folder / "config.json").is_file():
            raise ExportError(f"there is no config.json in {self.path!r}; give the folder of a model of transformers")
        try:
            if self._gguf:
                found = transformers.AutoConfig.from_pretrained(
                    str(self._folder.parent), gguf_file=self._folder.name, local_files_only=True
                )
            else:
                found = transformers.AutoConfig.from_pretrained(
                    self.path, local_files_only=True, trust_remote_code=False
                )
        except Exception as error:  # a foreign file: transformers raises all kinds
            if self._folder.is_dir() and (kind := own_class.own_code(self._folder)):
                raise ModelError(
                    f"the model in {self.path!r} is of a class in that folder ({kind}), and the code of a model is never run here; give one of a "
                    "class of transformers itself, or, of an export of nas_bo, the folder of `nas-bo train` that it was made from"
                ) from None
            raise ModelError(
                f"the configuration of {self.path!r} cannot be read by transformers {transformers.__version__}: {(str(error).splitlines() or [type(error).__name__])[0]:.200}"
            ) from None
        said: dict[str, object] = found.to_dict()
        how = said.get("quantization_config")
        if how is not None and not self._gguf:
            self._check_plain(how)
            said.pop("quantization_config")
        return said

    def _check_plain(self, how: object) -> None:
        """Of a folder whose configuration has `quantization_config`: what its weights are decides (raises ModelError)."""
        from nas_bo.pretrained.weights import Weights

        method = how.get("quant_method", how) if isinstance(how, Mapping) else how
        integers = Weights(self._folder).quantized()
        if integers is not None:
            raise ModelError(
                f"the weights in {self.path!r} are quantized ({method!s:.80}): {integers}, which is not understood; give the folder of the model "
                "before it was quantized, or one with its weights as plain numbers (float32, float16 or bfloat16)"
            )
        _log.warning(
            "config.json of %s has quantization_config (%.80s) and its weights are plain numbers: they are taken as they are, and what it may say "
            "about activations is left out",
            self.name,
            method,
        )

    @cached_property
    def _described(self) -> Described:
        if not self._ours:
            return described(self._config)
        said = folder.about(self.path)
        arch = Architecture.from_json((self._folder / folder.ARCH).read_text(encoding="utf-8"))
        fields = {
            name: value
            for name, value in arch.tree.items()
            if name not in (*HYPERPARAMETERS, *arch.counts, *said.get("ignore", ()))
        }
        if "layers" not in fields:
            layer = Node({name: fields.pop(name) for name in ("mixer", "mlp")})
            fields["layers"] = (layer,) * int(fields.pop("depth"))
        return Described("", Node(fields), int(said["vocab_size"]), 1, 0, POSITIONS)
