"""Networks that read frames of the sprite world, and the measuring of motions from what they see."""
