"""Scores of an untrained network from one mini-batch: one published method per file, each an objective.

They cost a forward and a backward pass per seed, and none is to be believed without a check on the space at hand: many
only repeat the size of the network, and the sign of some turns with the training budget. Names load lazily.
"""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
