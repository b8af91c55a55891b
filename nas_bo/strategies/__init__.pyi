import typing

from .among import Among as Among
from .auto import Auto as Auto
from .bayes import Bayes as Bayes
from .knapsack import Knapsack as Knapsack
from .local_search import LocalSearch as LocalSearch
from .nsga2 import NSGA2 as NSGA2
from .one_shot.darts import Darts as Darts
from .one_shot.gdas import GDAS as GDAS
from .one_shot.proxyless import ProxylessNAS as ProxylessNAS
from .random import Random as Random
from .regularized_evolution import RegularizedEvolution as RegularizedEvolution
from .reinforce import Reinforce as Reinforce
from .strategy import Strategy as Strategy
from .successive import Successive as Successive

def __getattr__(name: str) -> typing.Any: ...  # names of version 0.1
