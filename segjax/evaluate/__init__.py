"""segjax.evaluate."""
