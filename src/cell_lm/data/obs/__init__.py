"""Columns of ``obs`` and ``var``, and what they say of a cell."""
