"""Figures that the report and :mod:`cell_lm.pl` share: drawing on given axes, style, maps, training curves."""
