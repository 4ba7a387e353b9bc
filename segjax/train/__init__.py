"""segjax.train."""
