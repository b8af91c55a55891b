from .block_scores import BlockScores as BlockScores
from .loss import SubModelLoss as SubModelLoss
from .operators import BlockDistillation as BlockDistillation
from .ordered import CalibrationText as CalibrationText
from .space import Parts as Parts
from .teacher import Pretrained as Pretrained

__all__ = ["BlockDistillation", "BlockScores", "CalibrationText", "Parts", "Pretrained", "SubModelLoss"]
