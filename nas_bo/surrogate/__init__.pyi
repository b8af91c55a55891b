from .boosting import GradientBoosting as GradientBoosting
from .committee import Committee as Committee
from .ensemble import MLPEnsemble as MLPEnsemble
from .gaussian import GP as GP
from .ridge import Ridge as Ridge
from .trees import RandomTrees as RandomTrees
