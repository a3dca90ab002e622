"""How an error names an option: as an argument in Python and as an option of the command line.

The same error can reach a user of Python or of the command line, and it may come from another process. So every remedy
that is an option has both spellings.
"""

from __future__ import annotations


def option(name: str, value: object = None) -> str:
    """Return an option in both spellings.

    Parameters
    ----------
    name
        The argument in Python: ``"layer"``.
    value
        Value to set; None: the user chooses.

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
