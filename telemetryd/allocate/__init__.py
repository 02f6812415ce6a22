"""Divide a capacity: guarantees first, then the rest by importance and weight, each figure with its certificate."""
