"""Quantizes models to INT8 with a user's frames, and accepts them only if they find what the f32 model finds."""
