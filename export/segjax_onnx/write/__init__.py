"""Write networks as ONNX files."""
