"""INT8 models calibrated on a user's frames, and accepted only when they find what the f32 model finds."""
