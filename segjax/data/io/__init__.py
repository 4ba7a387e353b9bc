"""Read and write images, label maps and masks in every format."""
