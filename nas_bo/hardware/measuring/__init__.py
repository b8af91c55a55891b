"""Measuring on this machine: time, memory and energy, beside anchors that tell the drift of the machine."""
