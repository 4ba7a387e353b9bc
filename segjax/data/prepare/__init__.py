"""Preprocessing: steps, and pipelines of them."""
