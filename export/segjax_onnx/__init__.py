"""Export segjax networks to ONNX and run them without JAX."""
