"""Synthetic heads with lesions: data made on the spot."""
