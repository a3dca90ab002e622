"""How an error names an option: as an argument in Python and as an option of the command line, side by side.

An error does not know who will read it: it may have been raised in another process, on behalf of either. So every
remedy that is an option has both spellings, from one place.
"""

from __future__ import annotations


def option(name: str, value: object = None) -> str:
    """Return an option as both callers write it.

    Parameters
    ----------
    name
        The argument in Python: ``"layer"``.
    value
        What to set it to; None: the user's to choose.

    Examples
    --------
    >>> option("gene_column", "symbol")
    'gene_column="symbol" (--gene-column symbol)'
    >>> option("no_scores", True)
    'no_scores=True (--no-scores)'
    >>> option("layer")
    'layer= (--layer)'
    """
    flag = "--" + name.replace("_", "-")
    if value is None:
        return f"{name}= ({flag})"
    if value is True:
        return f"{name}=True ({flag})"
    written = f'"{value}"' if isinstance(value, str) else f"{value}"
    quoted = f"'{value}'" if isinstance(value, str) and not value.replace("_", "").replace(".", "").isalnum() else value
    return f"{name}={written} ({flag} {quoted})"
