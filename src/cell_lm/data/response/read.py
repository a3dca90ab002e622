"""Read a table of drug responses from a file or a DataFrame, and check it.

Several measurements of the same line and drug in one screen are averaged here, before anything is split: a split of
single rows would put replicates of one pair on both sides. Different screens disagree more than replicates do (GDSC1
with GDSC2: r = .47, replicates of GDSC2: .75), so that they are averaged only on request.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from cell_lm.data.response.columns import Chosen, ResponseColumns, choose
from cell_lm.data.response.table import ResponseTable
from cell_lm.data.response.units import Scale, to_unit, unit_of
from cell_lm.errors import ConfigError, InputError
from cell_lm.reading import reason, refuse_irregular
from cell_lm.remedies import option

ALL = "all"
"""``screen="all"``: average over screens, each with the same weight."""
_SHOWN = 3


def read_response(
    path: str | Path,
    *,
    scale: Scale = "ln_ic50",
    line: str | None = None,
    drug: str | None = None,
    response: str | None = None,
    smiles: str | None = None,
    tissue: str | None = None,
    screen_column: str | None = None,
    screen: str | None = None,
    missing: Literal["refuse", "drop"] = "refuse",
) -> ResponseTable:
    """Read a file of drug responses: CSV, TSV (also packed), Excel or parquet.

    The columns of GDSC's ``GDSC1_fitted_dose_response`` and ``GDSC2_fitted_dose_response`` and of DepMap's
    ``secondary-screen-dose-response-curve-parameters`` (PRISM) are known; those of any other table are named here,
    unless they are called ``line``, ``drug``, ``ln_ic50`` (or ``auc``, ``response``), ``smiles``, ``tissue`` and
    ``screen``.

    Parameters
    ----------
    path
        The file.
    scale
        What the response is: ``"ln_ic50"`` (natural logarithm of µM), ``"auc"``, ``"ic50"`` (µM), ``"ic50_nm"``,
        ``"log10_ic50"`` (of µM) or ``"pic50"`` (-log10 of mol/l). All but ``"auc"`` become ln µM.
    line, drug, response, smiles, tissue, screen_column
        Names of the columns.
    screen
        The screen to read where the file holds several, or ``"all"`` for the mean over screens.
    missing
        ``"drop"`` leaves out rows without a finite response; by default they are an error.

    Raises
    ------
    InputError
        The file cannot be read; a column is missing; responses are missing, infinite or cannot be on the stated scale;
        there are several screens and none was chosen; or one drug has two structures.
    """
    path = Path(path)
    refuse_irregular(path, fix="Name a file of responses")
    columns = ResponseColumns(line, drug, response, smiles, tissue, screen_column)
    return _build(_read_frame(path), path.name, columns, scale, screen, missing)


def response_table(
    frame: pd.DataFrame,
    *,
    name: str = "responses",
    scale: Scale = "ln_ic50",
    columns: ResponseColumns | None = None,
    screen: str | None = None,
    missing: Literal["refuse", "drop"] = "refuse",
) -> ResponseTable:
    """Return the responses in a DataFrame; parameters and errors as :func:`read_response`."""
    return _build(frame, name, columns or ResponseColumns(), scale, screen, missing)


def _read_frame(path: Path) -> pd.DataFrame:
    kind = path.name.lower()
    try:
        if kind.endswith((".parquet", ".pq")):
            return pd.read_parquet(path)
        if kind.endswith((".xlsx", ".xls")):
            if importlib.util.find_spec("openpyxl") is None:
                fix = "Save the sheet as CSV, or install openpyxl (pip install 'cell-lm[drug]')"
                raise InputError("an Excel sheet needs the package openpyxl", where=str(path), fix=fix)
            return pd.read_excel(path)
        separator = "\t" if re.search(r"\.(tsv|txt|tab)(\.\w+)?$", kind) else ","
        return pd.read_csv(path, sep=separator, encoding="utf-8-sig", low_memory=False)
    except InputError:
        raise
    except Exception as error:  # the parsers raise many kinds, zip and zlib errors among them
        fix = "Give CSV, TSV, Excel or parquet, and check that the file is whole"
        raise InputError(f"it cannot be read as a table ({reason(error)})", where=str(path), fix=fix) from None


def _build(
    frame: pd.DataFrame,
    name: str,
    columns: ResponseColumns,
    scale: Scale,
    screen: str | None,
    missing: Literal["refuse", "drop"],
) -> ResponseTable:
    if missing not in ("refuse", "drop"):
        raise ConfigError(f"missing={missing!r} is unknown", where=name, fix="Choose refuse or drop")
    if not len(frame):
        raise InputError("the table has no rows", where=name, fix="Give a table with one row per measurement")
    chosen = choose(list(map(str, frame.columns)), columns, scale, where=name)
    if chosen.layout.name == "PRISM" and scale == "ln_ic50" and columns.response is None:
        scale = "ic50"
    remarks = list[str]()
    if chosen.layout.name:
        remarks.append(f"read as a file of {chosen.layout.name}: {chosen.line}, {chosen.drug}, {chosen.response}")
    frame = _leave_out_failed(frame, chosen, remarks)
    rows = _rows(frame, chosen, name)
    rows = _one_screen(rows, screen, name)
    rows = _finite(rows, chosen, missing, name, remarks)
    rows["response"] = to_unit(rows["response"].to_numpy(np.float64), scale, where=f"{name}, column {chosen.response}")
    _refuse_two_structures(rows, name)
    pairs = _average(rows, screen == ALL, remarks)
    table = ResponseTable(name, unit_of(scale), pairs, tuple(remarks))
    return replace(table, remarks=(*remarks, *_same_structure(table)))


def _leave_out_failed(frame: pd.DataFrame, chosen: Chosen, remarks: list[str]) -> pd.DataFrame:
    column = chosen.layout.quality
    if column is None or column not in frame:
        return frame
    failed = frame[column].astype(str).str.casefold().eq("false")
    if failed.any():
        remarks.append(f"{int(failed.sum()):,} rows left out: {column} is False")
    return frame[~failed]


def _rows(frame: pd.DataFrame, chosen: Chosen, name: str) -> pd.DataFrame:
    """Return the columns by role; ``place`` is the number of the row, 1 for the first after the header."""
    rows = pd.DataFrame({"place": frame.index.to_numpy() if frame.index.dtype.kind in "iu" else range(len(frame))})
    rows["place"] += 1
    for role in ("line", "drug", "smiles", "tissue", "screen"):
        column = getattr(chosen, role)
        if column is None:
            continue
        values = frame[column].astype(object)
        rows[role] = values.map(lambda value: str(value).strip(), na_action="ignore").to_numpy()
        rows[role] = rows[role].where(rows[role].notna() & (rows[role] != ""), None)
    for role in ("line", "drug"):
        empty = rows[rows[role].isna()]
        if len(empty):
            found = f"{len(empty):,} of {len(rows):,} rows have no {role} ({_places(empty)})"
            raise InputError(found, where=name, fix=f"Fill the column {getattr(chosen, role)}, or remove the rows")
    rows["response"] = pd.to_numeric(frame[chosen.response], errors="coerce").to_numpy(np.float64)
    text = rows["response"].isna() & frame[chosen.response].notna().to_numpy()
    if text.any():
        first = frame[chosen.response].to_numpy(object)[text.to_numpy().argmax()]
        found = f"{int(text.sum()):,} responses are no numbers (the first: {str(first)[:40]!r}; {_places(rows[text])})"
        raise InputError(found, where=name, fix="Write plain numbers, or name another column by " + option("response"))
    if "smiles" in rows and chosen.layout.name == "PRISM":
        rows["smiles"] = rows["smiles"].map(lambda text: text.split(",")[0].strip(), na_action="ignore")
    return rows


def _one_screen(rows: pd.DataFrame, screen: str | None, name: str) -> pd.DataFrame:
    if "screen" not in rows:
        if screen is None:
            return rows
        found = f"screen {screen!r} was asked for, but no column holds the screen"
        raise InputError(found, where=name, fix=f"Name it by {option('screen_column')}, or leave the screen out")
    sizes = rows["screen"].fillna("(none)").value_counts()
    told = ", ".join(f"{each} ({number:,} rows)" for each, number in sizes.items())
    if screen is None and len(sizes) > 1:
        example = option("screen", str(sizes.index[0]))
        found = f"it holds {len(sizes)} screens, which do not agree well enough to be averaged unasked: {told}"
        raise InputError(found, where=name, fix=f"Choose one, as {example}, or {option('screen', ALL)} for their mean")
    if screen is None or screen == ALL:
        return rows
    if screen not in sizes.index:
        raise InputError(f"no row is of screen {screen!r}", where=name, fix=f"It has: {told}")
    return rows[rows["screen"] == screen].reset_index(drop=True)


def _finite(
    rows: pd.DataFrame, chosen: Chosen, missing: Literal["refuse", "drop"], name: str, remarks: list[str]
) -> pd.DataFrame:
    bad = ~np.isfinite(rows["response"].to_numpy())
    if not bad.any():
        return rows
    infinite = int(np.isinf(rows["response"].to_numpy()).sum())
    told = f"{int(bad.sum()):,} of {len(rows):,} responses are missing or infinite"
    if missing == "refuse" and (chosen.layout.missing is None or infinite):
        first = rows[bad].head(_SHOWN)
        names = "; ".join(f"row {row.place:,}: {row.line} x {row.drug}" for row in first.itertuples())
        more = ", …" if bad.sum() > _SHOWN else ""
        fix = f"Remove these rows, or leave them out by {option('missing', 'drop')}"
        raise InputError(f"{told} ({names}{more})", where=name, fix=fix)
    why = f": {chosen.layout.missing}" if chosen.layout.missing else ""
    remarks.append(f"{told}, and were left out{why}")
    if bad.all():
        raise InputError("no row has a response", where=name, fix="Name another column by " + option("response"))
    kept: pd.DataFrame = rows[~bad].reset_index(drop=True)
    return kept


def _refuse_two_structures(rows: pd.DataFrame, name: str) -> None:
    if "smiles" not in rows:
        return
    several = rows.dropna(subset=["smiles"]).groupby("drug")["smiles"].nunique()
    several = several[several > 1]
    if not len(several):
        return
    drug = str(several.index[0])
    own = rows.loc[(rows["drug"] == drug) & rows["smiles"].notna()].drop_duplicates("smiles").head(2)
    structures = " and ".join(f"{row.smiles} (row {row.place:,})" for row in own.itertuples())
    found = f"{len(several):,} drugs have more than one SMILES, as '{drug}': {structures}"
    raise InputError(found, where=name, fix="Write one SMILES per drug, or give different drugs different names")


def _average(rows: pd.DataFrame, over_screens: bool, remarks: list[str]) -> pd.DataFrame:
    """Return one row per pair: the mean of its measurements; over screens, the mean of the means of the screens."""
    key = ["line", "drug"]
    within = [*key, "screen"] if over_screens and "screen" in rows else key
    rows = rows.assign(replicates=1)
    repeated = int(rows.duplicated(within).sum())
    if repeated:
        spread = rows.groupby(within, sort=False, dropna=False)["response"].agg(["min", "max"])
        differ = int((spread["max"] > spread["min"]).sum())
        remarks.append(
            f"{repeated:,} rows repeat a pair of line and drug ({differ:,} pairs with different values): the mean of a "
            "pair is used"
        )
    pairs = _means(rows, within)
    if within != key and (several := int(pairs.duplicated(key).sum())):
        remarks.append(f"{several:,} pairs were measured in more than one screen: the mean over screens is used")
        pairs = _means(pairs, key)
    order = [
        "line",
        "drug",
        "response",
        "replicates",
        *(each for each in ("smiles", "tissue", "screen") if each in rows),
    ]
    return pairs[order]


def _means(rows: pd.DataFrame, key: list[str]) -> pd.DataFrame:
    """Average the response by key, sum the replicates, and keep the first of all else."""
    grouped = rows.groupby(key, sort=True, dropna=False)
    numbers = pd.DataFrame({"response": grouped["response"].mean(), "replicates": grouped["replicates"].sum()})
    first = rows.drop_duplicates(key).drop(columns=["response", "replicates", "place"], errors="ignore")
    return first.merge(numbers.reset_index(), on=key, how="right").sort_values(key[:2]).reset_index(drop=True)


def _same_structure(table: ResponseTable) -> list[str]:
    by_structure: dict[str, list[str]] = {}
    for drug, smiles in table.smiles().items():
        by_structure.setdefault(smiles, []).append(drug)
    several = [" = ".join(drugs) for drugs in by_structure.values() if len(drugs) > 1]
    if not several:
        return []
    shown = ", ".join(several[:_SHOWN]) + (", …" if len(several) > _SHOWN else "")
    return [f"{len(several):,} structures have two names, and are kept as two drugs of one molecule: {shown}"]


def _places(rows: pd.DataFrame) -> str:
    first = ", ".join(f"{place:,}" for place in rows["place"].head(_SHOWN))
    return f"row {first}" if len(rows) == 1 else f"rows {first}{', …' if len(rows) > _SHOWN else ''}"
