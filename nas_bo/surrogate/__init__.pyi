from .boosting import GradientBoosting as GradientBoosting
from .ensemble import MLPEnsemble as MLPEnsemble
from .gaussian import GP as GP
from .ridge import Ridge as Ridge
