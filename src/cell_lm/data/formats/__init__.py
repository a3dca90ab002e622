"""The formats that cells come in, one module each; all give a :class:`~cell_lm.data.formats.cell_file.CellFile`."""
