"""The detector worker: a consumer group member that answers every frame once, in order, with what it shows."""
