"""ROOM 9, architecture -> number. The contract `Objective` is in `nas_bo.problem`; public names load lazily."""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
