"""ROOM 10, strategies: history -> next architectures. Importing it loads no torch; names are resolved when used."""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
