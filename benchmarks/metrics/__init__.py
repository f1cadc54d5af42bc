"""Metrics against other packages, and their speed."""
