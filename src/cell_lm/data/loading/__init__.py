"""From datasets to batches of tokens: order, balance, tokenising, prefetching."""
