"""One-shot search: architectures by gradients on shared weights. These strategies see the model and the supernet."""
