"""Runs models on an NVIDIA GPU, with ONNX Runtime, TensorRT or torch."""
