"""The three objectives of pretraining and the engine that computes them for a batch of any size."""
