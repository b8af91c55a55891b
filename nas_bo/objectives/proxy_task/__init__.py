"""Synthetic tasks that small decoders learn, or fail to learn, within seconds: a task per file, each a recipe for
batches. `ProxyTask` makes an objective of one, `TaskSuite` of several. Names load lazily.

A task of your own is any object with the attributes of `Task`. An objective of your own that trains on something else
needs nothing from here: any callable with a name is one (`nas_bo.problem.as_objective`).
"""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
