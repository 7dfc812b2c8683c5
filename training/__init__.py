"""Models are made here: synthetic scenes, training, evaluation and export."""
