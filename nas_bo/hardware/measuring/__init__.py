"""Measuring on this machine: time, memory and energy, with anchors that tell the drift of the machine."""
