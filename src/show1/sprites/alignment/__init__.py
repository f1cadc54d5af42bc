"""Text alignment on the sprite world: prompts, judges, the evaluation and its report."""
