"""Shared parts of the benchmarks; none is run by itself."""
