"""Development tools; run from the root of the repository."""
