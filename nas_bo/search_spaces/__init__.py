"""Named search spaces, written in Python and nothing but data; imported as `nas_bo.search_spaces`."""

from nas_bo.search_spaces.connections import Connections
from nas_bo.search_spaces.hw_gpt_bench import HWGPTBenchL, HWGPTBenchM, HWGPTBenchS
from nas_bo.search_spaces.hybrid import Hybrid
from nas_bo.search_spaces.lfm2_tiny import Lfm2Tiny
from nas_bo.search_spaces.llama import Llama, LlamaUniform
from nas_bo.search_spaces.mixers import Mixers
from nas_bo.search_spaces.moe import MoE
from nas_bo.search_spaces.tiny_gpt import TinyGPT
from nas_bo.search_spaces.with_bits import TinyGPTBits, with_bits
from nas_bo.space import Space

NAMED: dict[str, type[Space]] = {
    "tiny_gpt": TinyGPT,
    "tiny_gpt_bits": TinyGPTBits,
    "llama": Llama,
    "llama_uniform": LlamaUniform,
    "lfm2_tiny": Lfm2Tiny,
    "hybrid": Hybrid,
    "moe": MoE,
    "mixers": Mixers,
    "connections": Connections,
    "hw_gpt_bench_s": HWGPTBenchS,
    "hw_gpt_bench_m": HWGPTBenchM,
    "hw_gpt_bench_l": HWGPTBenchL,
}

__all__ = [
    "NAMED", "Connections", "HWGPTBenchL", "HWGPTBenchM", "HWGPTBenchS", "Hybrid", "Lfm2Tiny", "Llama",
    "LlamaUniform", "Mixers", "MoE", "TinyGPT", "TinyGPTBits", "with_bits",
]  # fmt: skip
