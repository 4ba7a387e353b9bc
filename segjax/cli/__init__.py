"""segjax.cli."""
