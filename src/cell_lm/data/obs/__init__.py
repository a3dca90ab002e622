"""Columns of ``obs`` and ``var``, and their interpretation."""
