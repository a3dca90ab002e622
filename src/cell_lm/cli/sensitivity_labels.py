"""Labels of some cells: a column of obs, or a table that names the cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from anndata import AnnData

from cell_lm.errors import ConfigError, InputError
from cell_lm.reading import reason, refuse_irregular

COLUMN = "cell_lm_label_given"
_SHOWN = 3


def label_column(adata: AnnData, column: str | None, table: Path | None) -> str:
    """Return the column with the labels; those of a table become a new column.

    Raises
    ------
    ConfigError
        Neither or both were given.
    InputError
        The table cannot be read, names a cell twice or one that is not there.
    """
    if (column is None) == (table is None):
        found = "both --label and --labels were given" if column else "neither --label nor --labels was given"
        raise ConfigError(found, fix="Name a column of obs, or a table of cells and labels")
    if column is not None:
        return column
    assert table is not None
    adata.obs[COLUMN] = _read(table, adata.obs_names)
    return COLUMN


def _read(path: Path, cells: pd.Index) -> list[object]:
    """Return the label of each cell; None where the table has none."""
    refuse_irregular(path, fix="Name a table of cells and labels")
    try:
        frame = pd.read_csv(path, sep=None, engine="python", dtype=str, encoding="utf-8-sig")
    except Exception as error:  # the parser raises many kinds
        fix = "Give CSV or TSV with a header, the name of the cell first and its label second"
        raise InputError(f"it cannot be read as a table ({reason(error)})", where=str(path), fix=fix) from None
    if frame.shape[1] < 2:
        fix = "Give the name of the cell in the first column and its label in the second"
        raise InputError("it has a single column", where=str(path), fix=fix)
    names, labels = frame.iloc[:, 0].fillna(""), frame.iloc[:, 1]
    absent = names[~names.isin(cells.astype(str))]
    if len(absent):
        shown = ", ".join(f"'{name}'" for name in absent.head(_SHOWN)) + (", …" if len(absent) > _SHOWN else "")
        found = f"{len(absent):,} of its {len(names):,} cells are not in the file of cells: {shown}"
        raise InputError(found, where=str(path), fix="Name the cells as obs_names does")
    if names.duplicated().any():
        again = names[names.duplicated()].iloc[0]
        raise InputError(f"cell '{again}' has more than one row", where=str(path), fix="Leave one label per cell")
    if not cells.is_unique:
        found = "several cells of the file of cells have one name"
        raise InputError(found, where=str(path), fix="Make the names unique first: adata.obs_names_make_unique()")
    given = dict(zip(names, labels.where(labels.notna(), None), strict=True))
    return [given.get(str(name)) for name in cells]
