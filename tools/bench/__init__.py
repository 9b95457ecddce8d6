"""Measurements of whole registrations: `speed` (time and memory) and `peers` (accuracy beside other programs)."""
