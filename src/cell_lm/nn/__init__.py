"""Neural network parts: counters, embedding, attention, encoder, heads. Nothing here knows of AnnData or files."""
