"""Reads and writes model cards, and reads what an ONNX file says about itself."""
