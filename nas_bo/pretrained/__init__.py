"""ROOM 9, a trained model of Hugging Face as a decoder, as a set of sub-models in the order of their importance, and as a space
around it. Names are resolved when first used."""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
