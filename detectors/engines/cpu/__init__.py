"""Runs models on the CPU, with OpenVINO or ONNX Runtime."""
