"""The scale of a matrix: counts, a logarithm of them, or something that cannot be used."""
