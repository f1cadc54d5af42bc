"""Prompt encoders, and the cache of their states on disk."""
