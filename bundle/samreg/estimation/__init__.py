"""Estimators of transforms, from pairs of regions and from dense similarity."""
