"""The sprite world: scenes, captions and ground truth, its readers and judges, and how alignment is measured on it."""
