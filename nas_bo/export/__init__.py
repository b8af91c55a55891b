"""ROOM 5, a trained model leaves the house: as a folder of ours, and as what stock tools load."""
