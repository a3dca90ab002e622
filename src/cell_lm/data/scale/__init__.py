"""What the numbers of a matrix are: counts, a logarithm of them, or something that cannot be used."""
