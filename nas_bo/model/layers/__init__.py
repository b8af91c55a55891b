"""The torch module of each kind of block in `nas_bo.model.blocks`."""
