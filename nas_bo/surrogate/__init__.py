"""Architectures that were not evaluated: architectures as numbers, and Gaussian processes on them. numpy and scipy only.

Strategies ask it where to look next; predicted objectives and learned costs ask it for a number with its spread.
"""
