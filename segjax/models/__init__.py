"""segjax.models."""
