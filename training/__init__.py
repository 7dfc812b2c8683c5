"""Makes models: synthetic scenes, training, evaluation, export and quantization."""
