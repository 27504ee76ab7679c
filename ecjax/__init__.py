"""Recover an unknown neural network, its widths and every weight, from inputs and outputs alone."""
