"""From datasets to batches of tokens: order, balance, tokenising, making batches in advance."""
