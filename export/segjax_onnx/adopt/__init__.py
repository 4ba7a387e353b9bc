"""Others' networks as segjax files."""
