"""A folder that transformers loads with the code in it, for architectures that no stock class holds.

The code is one file that needs torch and transformers alone: the source of the blocks of the architecture and of the decoder around
them (`nas_bo.export.bundle`), under a class of transformers with a cache. It is loaded with ``trust_remote_code=True``.
"""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from nas_bo.errors import ExportError
from nas_bo.export import folder as files
from nas_bo.export.bundle import Bundle
from nas_bo.export.check import Check, compared
from nas_bo.export.folder import TrainedModel
from nas_bo.export.huggingface import POSITIONS, generation, imported, logits, with_cache, without_bars, write_tokenizer
from nas_bo.export.stepping import LONGEST
from nas_bo.export.token_roles import roles
from nas_bo.model import own_class
from nas_bo.model.blocks.skip import absent
from nas_bo.model.blocks.table import block_of, is_ours, joined
from nas_bo.model.connections import sources
from nas_bo.model.counts import steps
from nas_bo.model.decoder import Decoder, _rotary_dims
from nas_bo.model.spec import DecoderSpec

MODULE = "modeling_nas_bo"
DECODER = "nas_bo.model.decoder"
METHODS = ("_run", "context", "_through", "_layer", "_embed", "_logits")  # of the decoder, as they are
GIVEN = ("ModelError", "ROTARY_TABLE", "_module", "SPECS", "MODULES", "NasBoConfig", "NasBoCache", "NasBoForCausalLM")

HEAD = '''"""A language model whose architecture was found by search, as a model of transformers.

This file was collected by nas_bo from the source of the blocks of this architecture. It needs torch and transformers alone. Which
blocks there are, and of which sizes, is in config.json under "network".
"""

from __future__ import annotations

'''

BEFORE = """
ROTARY_TABLE = 0  # all sines are computed where they are needed


class ModelError(ValueError):
    pass


def _module(spec, frame):
    return None if absent(spec) else MODULES[spec.kind](None, spec, frame)


"""

AFTER = '''

class NasBoConfig(PreTrainedConfig):
    model_type = "nas_bo"

    def __init__(self, network=None, vocab_size=256, use_cache=True, **more):
        super().__init__(**more)
        self.network, self.vocab_size, self.use_cache = network, vocab_size, use_cache


def _spec(network):
    """The blocks and their sizes, as plain values."""

    def block(fields):
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        return SPECS[fields["kind"]](**plain)

    layers = tuple(LayerSpec(block(mixer), block(mlp)) for mixer, mlp in network["layers"])
    finer = None if network["finer"] is None else Details(**network["finer"])
    said = {name: network[name] for name in ("width", "norm", "position", "parallel", "tied", "bias")}
    return DecoderSpec(layers=layers, finer=finer, **said)


class NasBoCache:
    """What decoding remembers: one state per layer, and how many tokens they hold."""

    is_compileable = is_croppable = False
    is_linear = (False,)

    def __init__(self, model, batch):
        self.batch, self.length, self.position = batch, model.config.network["longest"], 0
        mixers = [model._layer(index).mixer for index in range(len(model.spec.layers))]
        like = model.embedding.weight
        self.states = [None if mixer is None else mixer.new_state(batch, self.length, like) for mixer in mixers]

    def get_seq_length(self, layer_idx=0):
        return self.position

    def reorder_cache(self, beam_idx):
        def chosen(state):
            if isinstance(state, tuple):
                return tuple(map(chosen, state))
            return None if state is None else state.index_select(0, beam_idx.to(state.device))

        self.states = [chosen(state) for state in self.states]


class NasBoForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = NasBoConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        spec = self.spec = _spec(config.network)
        details = spec.details
        self.embedding = nn.Embedding(config.vocab_size, spec.width)
        self.positions = nn.Embedding(details.max_length, spec.width) if details.max_length else None
        self.layers = nn.ModuleList(Layer(layer, spec) for layer in spec.layers[:: details.tie_layers])
        self.norm = _norm(spec)
        self.head = None if spec.tied else Linear(spec.width, config.vocab_size, bias=False)
        self._skips = skips(len(spec.layers), details)
        self.skip_gates = nn.Parameter(torch.empty(len(self._skips))) if self._skips else None
        self._last_reader = {at: index for index, at in enumerate(config.network["lenders"]) if at is not None}
        self._rotary_dims = config.network["rotary"]
        self.post_init()

    def _init_weights(self, module):
        """Of a model that is trained from the beginning; what is loaded comes from the file."""
        for name, weight in module.named_parameters(recurse=False):
            if weight.dim() > 1:
                nn.init.normal_(weight, std=weight.shape[-1] ** -0.5)
            else:
                nn.init.constant_(weight, 0.0 if name.endswith("bias") else 1.0)

    def get_input_embeddings(self):
        return self.embedding

    def set_input_embeddings(self, value):
        self.embedding = value

    def get_output_embeddings(self):
        return self.head

    @classmethod
    def _supports_default_dynamic_cache(cls):
        return False  # the cache is made in the first forward pass

    def forward(
        self, input_ids, attention_mask=None, labels=None, cache=None, past_key_values=None, use_cache=None, **more
    ):
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("this model reads no padded batches; give sequences of one length, or one at a time")
        cache = past_key_values if cache is None else cache
        if cache is not None and not isinstance(cache, NasBoCache):
            raise ValueError(f"this model has a cache of its own and takes no {type(cache).__name__}; leave it out")
        if use_cache is None:
            use_cache = self.config.use_cache and not self.training
        if cache is None and use_cache and self.config.network["steps"]:
            cache = NasBoCache(self, input_ids.shape[0])
        logits = self._logits(self._run(input_ids, cache)[0])
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size)
        names = CausalLMOutputWithPast.__dataclass_fields__
        return CausalLMOutputWithPast(
            loss=loss, logits=logits, **{"cache" if "cache" in names else "past_key_values": cache}
        )

'''


def write(made: TrainedModel, folder: Path) -> tuple[str, Check]:
    """Write the files into a folder, and compare what transformers makes of them with the model; as
    `nas_bo.export.huggingface.write`.

    Raises:
        ExportError: the source of a block of the user's own cannot be taken along.
    """
    from safetensors.torch import save

    transformers = imported()
    spec, details = made.model.spec, made.model.spec.details
    network = _network(made.model)
    config = {
        "model_type": own_class.KIND,
        "architectures": ["NasBoForCausalLM"],
        "auto_map": {"AutoConfig": f"{MODULE}.NasBoConfig", "AutoModelForCausalLM": f"{MODULE}.NasBoForCausalLM"},
        "network": network,
        "ignore": list(made.ignore),
        "vocab_size": made.model.vocab_size,
        "hidden_size": spec.width,
        "num_hidden_layers": len(spec.layers),
        "max_position_embeddings": details.max_length or POSITIONS,
        "dtype": "float32",
        "use_cache": network["steps"],
        "tie_word_embeddings": False,  # there is one matrix where they are tied
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "transformers_version": transformers.__version__,
    }
    weights = {name: weight.float().contiguous() for name, weight in made.model.state_dict().items()}
    files.write(
        folder,
        {
            "config.json": json.dumps(config, indent=1).encode(),
            f"{MODULE}.py": code(spec).encode(),
            files.WEIGHTS: save(weights, metadata={"format": "pt"}),
            "generation_config.json": json.dumps(
                {**generation(made.model, roles(made.tokenizer)), "use_cache": network["steps"]}
            ).encode(),
        },
    )
    write_tokenizer(made, folder)
    with without_bars():
        loaded = transformers.AutoModelForCausalLM.from_pretrained(
            folder, trust_remote_code=True, dtype="float32"
        ).eval()
    check = compared(made.model, f"transformers {transformers.__version__}", lambda ids: logits(loaded, ids))
    told = "NasBoForCausalLM, a class in this folder, since no stock class holds the architecture"
    return told, with_cache(made.model, loaded, check) if network["steps"] else check


def code(spec: DecoderSpec) -> str:
    """The Python file with the classes that the blocks of `spec` need."""
    blocks = {one.kind: block_of(one) for layer in spec.layers for one in layer}
    specs = {one.kind: type(one) for layer in spec.layers for one in layer}
    inside = {"nas_bo", *(type(block).__module__.partition(".")[0] for block in blocks.values())}
    bundle = Bundle(inside, GIVEN)
    for name in ("LayerSpec", "DecoderSpec"):
        bundle.add("nas_bo.model.spec", name)
    bundle.add("nas_bo.model.blocks.details", "Details")
    bundle.add("nas_bo.model.blocks.skip", "absent")
    bundle.add("nas_bo.model.connections", "skips")
    for name in ("Layer", "_norm", "Linear", "nn", "torch"):
        bundle.add(DECODER, name)
    made, tables = [], []
    for kind, block in blocks.items():
        owner, fields = type(block), specs[kind]
        tables.append((kind, bundle.add(fields.__module__, fields.__qualname__), f"_make_{kind}"))
        text = bundle.method(owner.__module__, owner.__qualname__, "module", f"_make_{kind}")
        if not is_ours(block) and "self." in text:
            raise ExportError(
                f"module(spec, frame) of the block {kind!r}, which is your own, reads values of the block itself, and the file would "
                "not have them; put them into its Spec, or export to onnx or folder"
            )
        made.append(text)
    methods = [bundle.method(DECODER, "Decoder", name) for name in METHODS]
    table = "SPECS = {" + ", ".join(f"{kind!r}: {name}" for kind, name, _ in tables) + "}\n"
    table += "MODULES = {" + ", ".join(f"{kind!r}: {name}" for kind, _, name in tables) + "}\n"
    needed = (
        "from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel\n"
        "from transformers.modeling_outputs import CausalLMOutputWithPast\n"
    )
    pieces = [HEAD, needed, bundle.text(), BEFORE, "\n\n\n".join(made), "\n\n\n", table, AFTER]
    return "".join(pieces) + "\n\n".join(textwrap.indent(text, "    ") for text in methods) + "\n"


def _network(model: Decoder) -> dict[str, Any]:
    """What `config.json` says about the blocks; full attentions are windows that nothing falls out of."""
    spec = model.spec
    layers = []
    for mixer, mlp in spec.layers:
        layers.append([{**joined(mixer, LONGEST)._asdict()}, {**mlp._asdict()}])
    ours = all(is_ours(block_of(one)) for layer in spec.layers for one in layer if not absent(one))
    return {
        "width": spec.width,
        "layers": layers,
        "norm": spec.norm,
        "position": spec.position,
        "parallel": spec.parallel,
        "tied": spec.tied,
        "bias": spec.bias,
        "finer": None if spec.finer is None else spec.finer._asdict(),
        "lenders": sources(spec.layers),
        "rotary": _rotary_dims(spec),
        "steps": steps(spec),
        "longest": LONGEST if ours else spec.details.max_length or POSITIONS,
    }
