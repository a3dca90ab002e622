"""Which columns of a table hold lines, drugs and responses: as the user says, or as GDSC and PRISM name them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cell_lm.data.obs.columns import find_column
from cell_lm.data.response.units import Scale
from cell_lm.errors import InputError
from cell_lm.remedies import option


@dataclass(frozen=True)
class ResponseColumns:
    """Names of the columns of a table of responses; None: as the layout of the file has it, if it has one."""

    line: str | None = None
    """The cell line, by the name that the expression data use."""
    drug: str | None = None
    """The name of the drug."""
    response: str | None = None
    """The measured response."""
    smiles: str | None = None
    """The structure of the drug."""
    tissue: str | None = None
    """The tissue of the line."""
    screen: str | None = None
    """The screen; different screens are not averaged unless asked for."""


@dataclass(frozen=True)
class Layout:
    """A known kind of file: columns that mark it, their roles, and the response by scale."""

    name: str
    mark: tuple[str, ...]
    columns: ResponseColumns
    responses: dict[Scale, str]
    quality: str | None = None
    """A column that is False for measurements that failed; they are left out."""
    missing: str | None = None
    """Why a response may be missing; such rows are left out and counted. None: a missing response is an error."""


GDSC = Layout(
    "GDSC",
    ("CELL_LINE_NAME", "DRUG_NAME", "LN_IC50"),
    ResponseColumns("CELL_LINE_NAME", "DRUG_NAME", None, None, "TCGA_DESC", "DATASET"),
    {"ln_ic50": "LN_IC50", "auc": "AUC"},
)
PRISM = Layout(
    "PRISM",
    ("depmap_id", "broad_id", "name", "auc", "ic50"),
    ResponseColumns("depmap_id", "name", None, "smiles"),
    {"auc": "auc", "ic50": "ic50"},
    quality="passed_str_profiling",
    missing="curves that do not reach 50 % have no IC50",
)
PLAIN = Layout(
    "",
    (),
    ResponseColumns("line", "drug", None, "smiles", "tissue", "screen"),
    {"ln_ic50": "ln_ic50", "auc": "auc"},
)
LAYOUTS = (GDSC, PRISM)


@dataclass(frozen=True)
class Chosen:
    """The columns that are read, all of them there; those of ``smiles``, ``tissue`` and ``screen`` may be None."""

    line: str
    drug: str
    response: str
    smiles: str | None
    tissue: str | None
    screen: str | None
    layout: Layout


def choose(names: Sequence[str], wanted: ResponseColumns, scale: Scale, *, where: str) -> Chosen:
    """Return the columns to read.

    Raises
    ------
    InputError
        A named column is not there (close names are suggested), or one was not named and has no usual name.
    """
    there = {str(name) for name in names}
    layout = next((each for each in LAYOUTS if set(each.mark) <= there), PLAIN)
    usual = _usual_response(layout, scale, there)
    found = {
        "line": _required(names, "line", wanted.line, layout.columns.line, where),
        "drug": _required(names, "drug", wanted.drug, layout.columns.drug, where),
        "response": _required(names, "response", wanted.response, usual, where),
    }
    smiles, tissue, screen = (
        _optional(names, getattr(wanted, role), getattr(layout.columns, role), where)
        for role in ("smiles", "tissue", "screen")
    )
    if len(set(found.values())) < len(found):
        told = ", ".join(f"{role} '{name}'" for role, name in found.items())
        raise InputError(f"one column has two roles: {told}", where=where, fix="Name three different columns")
    read_by_layout = layout if wanted.response is None else replace(layout, missing=None)
    return Chosen(**found, smiles=smiles, tissue=tissue, screen=screen, layout=read_by_layout)


def _usual_response(layout: Layout, scale: Scale, there: set[str]) -> str | None:
    name = layout.responses.get(scale)
    if layout is PRISM and scale == "ln_ic50":
        return "ic50"  # the reader takes its logarithm
    return "response" if layout is PLAIN and name not in there and "response" in there else name


def _required(names: Sequence[str], role: str, given: str | None, usual: str | None, where: str) -> str:
    name = given or usual
    if name is None or (given is None and name not in {str(each) for each in names}):
        shown = ", ".join(map(str, list(names)[:20])) + (", …" if len(names) > 20 else "")
        found = f"no column is known to be the {role}"
        raise InputError(found, where=where, fix=f"Name it by {option(role)}. The table has: {shown}")
    _find(names, name, where)
    return name


def _optional(names: Sequence[str], given: str | None, usual: str | None, where: str) -> str | None:
    if given is not None:
        _find(names, given, where)
        return given
    return usual if usual in {str(name) for name in names} else None


def _find(names: Sequence[str], name: str, where: str) -> None:
    find_column(pd.DataFrame(columns=list(names)), name, axis="the table", where=where)
