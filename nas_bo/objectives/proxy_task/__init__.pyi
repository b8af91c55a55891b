from .copying import SelectiveCopying as SelectiveCopying
from .induction import InductionHeads as InductionHeads
from .markov import MarkovSource as MarkovSource
from .memorisation import Memorisation as Memorisation
from .objective import ProxyTask as ProxyTask
from .recall import AssociativeRecall as AssociativeRecall
from .suite import TaskSuite as TaskSuite
from .task import Task as Task
