"""segjax.data.augment."""
