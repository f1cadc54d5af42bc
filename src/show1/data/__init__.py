"""Training clips: folders of videos, references, and the views of them that the stages learn from."""
