"""SAM models: the family, its weights, encoding slices, and masks from prompts.

The only place that knows SAM's pixels (x along index i, y along j) and its modules.
"""
