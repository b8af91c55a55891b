"""What is done to the weights of a trained model: fewer bits, fewer units, and a little training to make up for it.

Names are resolved when first used; pure torch on the decoder of nas_bo.
"""

from nas_bo.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
