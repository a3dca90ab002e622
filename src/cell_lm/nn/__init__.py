"""Neural network modules: counters, embedding, attention, encoder, heads. They do not depend on AnnData or files."""
