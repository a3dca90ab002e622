"""The description, in a run folder, of the cells that its model was trained on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cell_lm.cli.console import Messages
from cell_lm.errors import CellLMError, InputError
from cell_lm.files import CHECKSUM, checksum_holds
from cell_lm.reading import MOST_LISTED, read_json_object
from cell_lm.terminal import one_line

if TYPE_CHECKING:
    from cell_lm.data.store import Store

_DATA = "data.json"


@dataclass(frozen=True)
class RunData:
    """The data description of a run.

    Attributes
    ----------
    path : Path
        The description.
    values : dict
        Its content: ``datasets`` (name, cells, hash, malignancy, …; of a store every source, with the SHA-256 of its
        file as the hash) and ``stores`` (name, path, cells, and the SHA-256 of the manifest as the hash).
    """

    path: Path
    values: dict[str, Any]

    @staticmethod
    def _find(folder: Path) -> Path | None:
        """Return the description in a run folder, or next to the model folder in one."""
        places = (folder / _DATA, Path(os.path.realpath(folder)).parent / _DATA)
        return next((path for path in places if path.is_file() and not (folder / "manifest.json").exists()), None)

    @classmethod
    def is_in(cls, folder: Path) -> bool:
        """Return whether a folder is a run folder or the model folder of a run."""
        return cls._find(folder) is not None

    @classmethod
    def read(cls, folder: Path) -> RunData:
        """Read the description.

        Raises
        ------
        InputError
            It is damaged.
        """
        path = cls._find(folder) or folder / _DATA
        try:
            values = read_json_object(path, most=MOST_LISTED)
            assert checksum_holds(values)
            del values[CHECKSUM]
            assert isinstance(values["datasets"], list)
            assert all(isinstance(one["name"], str) for key in ("datasets", "stores") for one in values.get(key, []))
        except (OSError, ValueError, KeyError, TypeError, AssertionError):
            fix = "Name the folder of a store or of a run"
            raise InputError(
                "it does not describe the data of a run, is damaged or was changed", where=str(path), fix=fix
            ) from None
        return cls(path, values)

    def described(self) -> list[tuple[str, str]]:
        """Return name and SHA-256 of every source of a store."""
        return [(one["name"], str(one.get("hash"))) for one in self.values["datasets"] if "store" in one]

    def stores(self, says: Messages) -> list[Store]:
        """Open the stores that the run was trained on, if they are unchanged and still at their path."""
        from cell_lm.data.store import Store

        found = []
        for one in self.values.get("stores", []):
            try:
                store = Store.open(one.get("path", one["name"]))
            except CellLMError as error:
                says.note(f"store {one['name']} is not here: {error.found}")
                continue
            if store.hash == one.get("hash"):
                found.append(store)
            else:
                says.note(f"{store.path} is not the store that the run was trained from: it has another manifest")
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the description unchanged."""
        return {"path": str(self.path), **self.values}

    def tell(self, says: Messages) -> None:
        """Show the description in a table."""
        says.result(one_line(str(self.path)), style="bold")
        for one in self.values.get("stores", []):
            says.result(one_line(f"  store {one['name']}: {one.get('cells', 0):,} cells, {str(one.get('hash'))[:16]}"))
        says.result()
        header = ["dataset", "store", "cells", "normal", "tumour", "unknown"]
        says.table(header, list(self._rows()), numbers=4)

    def _rows(self) -> Iterator[list[str]]:
        for one in self.values["datasets"]:
            counts = one.get("malignancy", {})
            numbers = [one.get("cells", 0), *(counts.get(name, 0) for name in ("normal", "tumour", "unknown"))]
            yield [one["name"], str(one.get("store", "")), *(f"{number:,}" for number in numbers)]
