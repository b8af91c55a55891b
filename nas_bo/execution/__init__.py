"""ROOM 13, execution: what is looked at before the first trial, and where evaluations run. Names are resolved when first used."""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
