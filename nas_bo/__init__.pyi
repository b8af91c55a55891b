from .architecture import Architecture as Architecture
from .errors import NasBoError as NasBoError
from .objective import Objective as Objective
from .objective import Reported as Reported
from .objective import Value as Value
from .problem import Problem as Problem
from .space import Space as Space
from .space import choice as choice
from .space import integer as integer
from .space import option as option
from .space import real as real
from .space import repeat as repeat
from .space import require as require
from .trial import State as State
from .trial import Trial as Trial
from .workflows.ask_tell import AskTell as AskTell
from .workflows.notebook import NotebookProgress as NotebookProgress
from .workflows.profile import profile as profile
from .workflows.result import Result as Result
from .workflows.search import search as search
from .workflows.validate import validate as validate

__version__: str
