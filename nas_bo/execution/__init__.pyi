from .executor import Executor as Executor
from .in_process import InProcess as InProcess
from .processes import Processes as Processes
from .ray import Ray as Ray
