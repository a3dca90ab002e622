"""The file formats, one module each; all return a :class:`~cell_lm.data.formats.cell_file.CellFile`."""
