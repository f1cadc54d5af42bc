"""The claim of arXiv:2309.15818, side by side."""
