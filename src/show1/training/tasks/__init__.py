"""What can be trained: one task per stage network, each with its own options."""
