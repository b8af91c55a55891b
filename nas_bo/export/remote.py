"""A folder that transformers loads with a class of nas_bo's own, for architectures that no stock class holds.

The class is a thin wrapper around the decoder, in a file next to the weights: it is loaded with ``trust_remote_code=True`` where
nas_bo is installed. It keeps no cache: each new token reads all before it.
"""

from __future__ import annotations

import json
from pathlib import Path

from nas_bo.export import folder as files
from nas_bo.export.check import Check, compared
from nas_bo.export.folder import TrainedModel
from nas_bo.export.huggingface import imported, logits, write_tokenizer

CODE = '''"""A decoder of nas_bo as a model of transformers; written by nas_bo, which must be installed."""

from nas_bo.architecture import Architecture
from nas_bo.model import build
from transformers import GenerationMixin, PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class NasBoConfig(PreTrainedConfig):
    model_type = "nas_bo"

    def __init__(self, architecture=None, ignore=(), vocab_size=256, **more):
        self.architecture, self.ignore, self.vocab_size = architecture, list(ignore), vocab_size
        super().__init__(**more)


class NasBoForCausalLM(PreTrainedModel, GenerationMixin):
    config_class = NasBoConfig
    main_input_name = "input_ids"

    def __init__(self, config):
        super().__init__(config)
        self.decoder = build(Architecture.from_dict(config.architecture), config.vocab_size, tuple(config.ignore))
        self.post_init()

    def _init_weights(self, module):
        """Weights come from the file; tables of rotary positions, which are in no file, are computed."""
        if module is getattr(self, "decoder", None):
            made = build(Architecture.from_dict(self.config.architecture), 1, tuple(self.config.ignore))
            tables = dict(made.named_buffers())
            for name, table in module.named_buffers():
                table.copy_(tables[name])

    def get_input_embeddings(self):
        return self.decoder.embedding

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(self, input_ids, attention_mask=None, labels=None, **more):
        if attention_mask is not None and not attention_mask.all():
            raise ValueError("this model reads no padded batches; give sequences of one length, or one at a time")
        logits = self.decoder(input_ids)
        loss = None if labels is None else self.loss_function(logits, labels, self.config.vocab_size)
        return CausalLMOutput(loss=loss, logits=logits)
'''


def write(made: TrainedModel, folder: Path) -> tuple[str, Check]:
    """Write the files into a folder, and compare what transformers makes of them with the model; as
    `nas_bo.export.huggingface.write`."""
    from safetensors.torch import save

    transformers = imported()
    module = "modeling_nas_bo"
    config = {
        "model_type": "nas_bo",
        "architectures": ["NasBoForCausalLM"],
        "auto_map": {"AutoConfig": f"{module}.NasBoConfig", "AutoModelForCausalLM": f"{module}.NasBoForCausalLM"},
        "architecture": made.architecture.to_dict(),
        "ignore": list(made.ignore),
        "vocab_size": made.model.vocab_size,
        "hidden_size": made.model.spec.width,
        "num_hidden_layers": len(made.model.spec.layers),
        "dtype": "float32",
        "use_cache": False,
        "tie_word_embeddings": False,
        "transformers_version": transformers.__version__,
    }
    weights = {f"decoder.{name}": weight.float().contiguous() for name, weight in made.model.state_dict().items()}
    files.write(
        folder,
        {
            "config.json": json.dumps(config, indent=1).encode(),
            f"{module}.py": CODE.encode(),
            files.WEIGHTS: save(weights, metadata={"format": "pt"}),
            "generation_config.json": json.dumps({"use_cache": False, "do_sample": True, "temperature": 0.7, "max_new_tokens": 128, "pad_token_id": 0}).encode(),
        },
    )  # fmt: skip
    write_tokenizer(made, folder)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype="float32").eval()
    check = compared(made.model, f"transformers {transformers.__version__}", lambda ids: logits(loaded, ids))
    return "NasBoForCausalLM, a class in this folder, since no stock class holds the architecture", check
