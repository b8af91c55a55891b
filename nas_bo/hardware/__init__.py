"""ROOM 7, what an architecture costs on a device: measured here, or estimated without running anything."""
