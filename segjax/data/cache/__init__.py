"""Preprocessed cases on disk, read through the memory map."""
