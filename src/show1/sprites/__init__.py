"""The sprite world: procedural clips of sprites over painted backgrounds, with captions and exact ground truth.

- The world: `world` (its vocabulary and held-out pairs), `scenes`, `backgrounds`, `groups` (several subjects, small and
  big ones), `captions`, `caption_reader`.
- Training on it: `clips`, `options`, `text_task`.
- Measuring with it: `readers` (networks that read frames, and the tracking of motion), `alignment` (prompts, judges,
  the evaluation and its report), `benchmark` (its plug-in for the standard benchmarks).
"""
