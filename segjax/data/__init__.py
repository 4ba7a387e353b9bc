"""segjax.data."""
