"""Run exported networks: onnxruntime, no JAX."""
