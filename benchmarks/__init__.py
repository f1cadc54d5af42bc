"""Measurements of this project, run as modules from its root: `python -m benchmarks.claim.run --out claim`."""
