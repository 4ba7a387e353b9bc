"""Settings of a training, decided from the data."""
