"""How well methods of customization teach motions and styles."""
