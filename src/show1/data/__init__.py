"""Training clips: the sprite world, folders of videos, and the views of them that the stages learn from."""
