"""ROOM 5, a trained model leaves the search: as a folder of nas_bo, and as what stock tools load."""
