"""Drug responses, one row per pair of line and drug."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_lm.data.response.units import Unit
from cell_lm.errors import InputError


@dataclass(frozen=True, eq=False)
class ResponseTable:
    """Measured responses of cell lines to drugs.

    Attributes
    ----------
    name : str
        Name of the file, for messages.
    unit : {"ln_ic50", "auc"}
        ln of the IC50 in µM, or the area under the dose-response curve (1: no effect).
    pairs : DataFrame
        One row per pair, sorted by line and drug: ``line``, ``drug`` (str), ``response`` (float64, finite) and
        ``replicates`` (measurements averaged); where they are known ``smiles``, ``tissue`` and ``screen`` (str, None
        where missing).
    remarks : tuple of str
        What was averaged or left out, to show to the user.
    """

    name: str
    unit: Unit
    pairs: pd.DataFrame
    remarks: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.pairs)

    @property
    def lines(self) -> NDArray[np.object_]:
        """Names of the lines, sorted."""
        return np.unique(self.pairs["line"].to_numpy(object))

    @property
    def drugs(self) -> NDArray[np.object_]:
        """Names of the drugs, sorted."""
        return np.unique(self.pairs["drug"].to_numpy(object))

    def matrix(self) -> pd.DataFrame:
        """Return the responses as lines x drugs, float64, NaN where a pair was not measured."""
        lines, drugs = self.lines, self.drugs
        values = np.full((len(lines), len(drugs)), np.nan)
        rows = np.searchsorted(lines, self.pairs["line"].to_numpy(object))
        columns = np.searchsorted(drugs, self.pairs["drug"].to_numpy(object))
        values[rows, columns] = self.pairs["response"]
        return pd.DataFrame(values, index=pd.Index(lines, name="line"), columns=pd.Index(drugs, name="drug"))

    def of_drug(self, drug: str) -> pd.Series[Any]:
        """Return the responses to one drug, indexed by line.

        Raises
        ------
        InputError
            The table has no such drug; close names are suggested.
        """
        rows = self.pairs[self.pairs["drug"] == drug]
        if not len(rows):
            folded = {str(name).casefold(): str(name) for name in self.drugs}
            close = [folded[match] for match in difflib.get_close_matches(drug.casefold(), folded, n=3, cutoff=0.5)]
            hint = f"Did you mean {' or '.join(map(repr, close))}" if close else "Name one of the drugs of the table"
            found = f"none of its {len(self.drugs):,} drugs is called '{drug}'"
            raise InputError(found, where=self.name, fix=hint)
        return pd.Series(rows["response"].to_numpy(), index=pd.Index(rows["line"], name="line"), name=drug)

    def smiles(self) -> dict[str, str]:
        """Return the SMILES of every drug that has one; empty where the table has none."""
        if "smiles" not in self.pairs:
            return {}
        known = self.pairs.dropna(subset=["smiles"]).drop_duplicates("drug")
        return dict(zip(known["drug"].astype(str), known["smiles"].astype(str), strict=True))

    def with_smiles(self, smiles: Mapping[str, str]) -> ResponseTable:
        """Return the table with structures from elsewhere: SMILES by drug; GDSC's own files have none.

        Raises
        ------
        InputError
            None of the drugs is one of the table.
        """
        column = self.pairs["drug"].map(dict(smiles)).astype(object)
        if column.isna().all():
            found = f"none of {len(smiles):,} drugs with a SMILES is one of its {len(self.drugs):,}"
            raise InputError(found, where=self.name, fix="Check that both use the same names")
        return replace(self, pairs=self.pairs.assign(smiles=column.where(column.notna(), None)))

    def tissues(self) -> dict[str, str]:
        """Return the tissue of every line that has one."""
        if "tissue" not in self.pairs:
            return {}
        known = self.pairs.dropna(subset=["tissue"]).drop_duplicates("line")
        return dict(zip(known["line"].astype(str), known["tissue"].astype(str), strict=True))

    def keep(self, rows: NDArray[Any]) -> ResponseTable:
        """Return some of the pairs, by a boolean mask or an array of row numbers."""
        chosen = np.sort(np.arange(len(self))[rows])
        return replace(self, pairs=self.pairs.iloc[chosen].reset_index(drop=True))
