import typing

from .counts import Operation as Operation
from .counts import active_parameters as active_parameters
from .counts import flops as flops
from .counts import kv_cache_bytes as kv_cache_bytes
from .counts import operations as operations
from .counts import parameters as parameters
from .data import Corpus as Corpus
from .data import load_corpus as load_corpus
from .decoder import Cache as Cache
from .decoder import Decoder as Decoder
from .decoder import build as build
from .distillation import Distillation as Distillation
from .inference import evaluate as evaluate
from .inference import generate as generate
from .own_model import CachedDecoder as CachedDecoder
from .parametrization import CompleteP as CompleteP
from .spec import DecoderSpec as DecoderSpec
from .spec import check as check
from .spec import connections_fit as connections_fit
from .stacked_training import train_many as train_many
from .training import Training as Training
from .training import TrainingResult as TrainingResult
from .training import train as train
from .training_settings import TrainingSettings as TrainingSettings
from .vocabulary import attention as attention
from .vocabulary import conv as conv
from .vocabulary import dense as dense
from .vocabulary import gated_delta as gated_delta
from .vocabulary import label as label
from .vocabulary import latent_attention as latent_attention
from .vocabulary import linear_attention as linear_attention
from .vocabulary import moe as moe
from .vocabulary import skip as skip
from .vocabulary import ssm as ssm
from .vocabulary import word as word

def __getattr__(name: str) -> typing.Any: ...  # words of own blocks, and names of version 0.1
