"""Transforms from region pairs and dense similarity."""
