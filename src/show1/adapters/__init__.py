"""Adapters: the file, LoRA formats of other programs, and the set that a pipeline uses."""
