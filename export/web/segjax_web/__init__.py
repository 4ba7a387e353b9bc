"""The built browser page of segjax."""

from pathlib import Path

__all__ = ["folder"]


def folder() -> Path:
    """Return the folder that holds the page: its index.html and all that it loads."""
    return Path(__file__).parent / "dist"
