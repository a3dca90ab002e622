"""The options for reading cells, the same for every verb that reads them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias, get_type_hints

import typer

from cell_lm.cli.options import READING

if TYPE_CHECKING:
    from cell_lm.data.read_options import ReadOptions

Layer = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Matrix to read: a layer's name, 'raw' for adata.raw, a genome (10x h5) or object (RData). \\[default: X]",
        show_default=False,
        rich_help_panel=READING,
    ),
]

Scale = Annotated[
    Literal["counts", "log1p", "log2", "log10", "linear"],
    typer.Option(
        "--scale",
        "--input",
        help="Scale of the matrix: raw counts; log1p (natural), log2 or log10 of 1 + counts scaled to one total per "
        "cell, or of TPM; linear: scaled, estimated or corrected, not logged. All entries are checked.",
        rich_help_panel=READING,
    ),
]

AnyScale: TypeAlias = Literal["counts", "log1p", "log2", "log10", "linear", "scaled"]

ScaleOrZScores = Annotated[
    AnyScale,
    typer.Option(
        "--scale",
        "--input",
        help="Scale of the matrix: raw counts; log1p (natural), log2 or log10 of 1 + counts scaled to one total per "
        "cell, or of TPM; linear: not logged; scaled: z-scored by gene. All entries are checked.",
        rich_help_panel=READING,
    ),
]

GeneColumn = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN",
        help="Column of var with gene symbols or Ensembl ids. \\[default: var_names]",
        show_default=False,
        rich_help_panel=READING,
    ),
]

MinOverlap = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Least number of genes of the vocabulary in the data; lower it for a targeted panel. "
        "\\[default: one in twenty]",
        show_default=False,
        rich_help_panel=READING,
    ),
]


def _min_genes(least: int, panel: str) -> Any:
    with_none = "; with 0 an empty cell is an error" if least == 0 else ""
    text = f"Leave out cells with fewer expressed genes of the vocabulary{with_none}."
    return Annotated[int, typer.Option(min=least, metavar="N", help=text, rich_help_panel=panel)]


def reads_cells(
    *, min_genes: int | None = 0, least: int = 0, panel: str = READING, z_scores: bool = False
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Replace the parameter ``read`` of a verb by the options for reading, and pass them on as that one object.

    Parameters
    ----------
    min_genes, least
        Default of ``--min-genes`` (None: the verb has no such option), and its lowest valid value.
    panel
        Help panel of ``--min-genes``.
    z_scores
        Whether the verb can read z-scores.
    """
    options: dict[str, tuple[Any, object]] = {
        "layer": (Layer, None),
        "scale": (ScaleOrZScores if z_scores else Scale, "counts"),
        "gene_column": (GeneColumn, None),
        "min_overlap": (MinOverlap, None),
    }
    if min_genes is not None:
        options["min_genes"] = _min_genes(least, panel), min_genes

    def build(values: dict[str, Any]) -> ReadOptions:
        from cell_lm.data.read_options import ReadOptions

        return ReadOptions(**values)

    return as_one("read", options, build)


def as_one(
    parameter: str, options: dict[str, tuple[Any, object]], build: Callable[[dict[str, Any]], object]
) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Replace a parameter of a verb by options, and pass them on as one object.

    Parameters
    ----------
    parameter
        Name of the parameter to replace.
    options
        Annotation and default of each option.
    build
        Makes the object of the values of the options.
    """

    def decorate(verb: Callable[..., int]) -> Callable[..., int]:
        @wraps(verb)
        def with_options(**given: Any) -> int:
            values = {name: given.pop(name) for name in options}
            return verb(**given, **{parameter: build(values)})

        own = {name: hint for name, hint in inspect.get_annotations(verb).items() if name != parameter}
        hints = get_type_hints(SimpleNamespace(__annotations__=own), vars(inspect.getmodule(verb)), include_extras=True)
        parameters = list[inspect.Parameter]()
        for name, each in inspect.signature(verb).parameters.items():
            if name == parameter:
                parameters += [
                    inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
                    for option, (hint, default) in options.items()
                ]
            else:
                annotated = each.replace(annotation=hints[name], kind=inspect.Parameter.KEYWORD_ONLY)
                parameters.append(annotated)
        with_options.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        with_options.__annotations__ = {each.name: each.annotation for each in parameters}
        return with_options

    return decorate
