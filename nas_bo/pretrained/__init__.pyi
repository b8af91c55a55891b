from .block_scores import BlockScores as BlockScores
from .importance import Importance as Importance
from .importance import importance as importance
from .loss import SubModelLoss as SubModelLoss
from .ordered import Calibration as Calibration
from .space import Parts as Parts
from .teacher import Pretrained as Pretrained

__all__ = ["BlockScores", "Calibration", "Importance", "Parts", "Pretrained", "SubModelLoss", "importance"]
