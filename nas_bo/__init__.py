"""nas_bo: find language-model architectures that are good and cheap on a given device.

Importing this package loads no torch, optuna, ax, botorch, mlflow or pandas; names are resolved when first used.
"""

from nas_bo import moved
from nas_bo.lazy import attach

__version__ = "0.2.0"

moved.install()

__getattr__, __dir__, __all__ = attach(__name__, __file__)
