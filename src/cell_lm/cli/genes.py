"""``cell-lm genes``: gene vectors from networks, and the nearest genes by them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import READING, WRITING
from cell_lm.cli.read_options import reads_cells

if TYPE_CHECKING:
    import numpy as np
    from scipy import sparse

    from cell_lm.config import GraphMAEConfig
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.genes.interactions import Network

_LEARNING = "How it is learned"

_PRETRAIN = """[bold]Examples[/bold]

  cell-lm genes pretrain anat --out genes            [dim]# the packaged network[/dim]
  cell-lm genes pretrain edges.parquet --dim 512 --out genes
  cell-lm download string --out string && cell-lm genes pretrain string anat --out genes
  cell-lm genes pretrain edges.tsv --gene-a A --gene-b B --score weight --out genes
  cell-lm pretrain cells.h5ad --gene-vectors genes/vectors.safetensors --out run

[dim]Ctrl-C saves and exits; --resume continues.[/dim]"""

_SIMILAR = """[bold]Examples[/bold]

  cell-lm genes similar CD3D
  cell-lm genes similar ENSG00000167286 -k 20 --vectors genes/vectors.safetensors"""


def register(app: typer.Typer) -> None:
    """Add the verb."""
    genes = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")
    genes.command("pretrain", help="Learn gene vectors on networks of genes (GraphMAE).", epilog=_PRETRAIN)(pretrain)
    genes.command("similar", help="List the genes most similar to a gene.", epilog=_SIMILAR)(similar)
    app.add_typer(genes, name="genes", help="Gene vectors from gene networks.")


@reads_cells(min_genes=200, least=1)
def pretrain(
    context: typer.Context,
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NETWORK",
            help="'anat' (packaged), a file of edges (csv, tsv, parquet), or the folder of a STRING download. The "
            "first of several has the largest influence.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(metavar="FOLDER", help="Run folder to write.", show_default=False, rich_help_panel=WRITING),
    ],
    dim: Annotated[int | None, typer.Option(min=1, metavar="N", help="Width of the vectors. \\[default: 512]")] = None,
    cells: Annotated[
        list[Path] | None,
        typer.Option(
            readable=False,
            metavar="CELLS",
            help="File of cells to learn co-expression from as well; at most 20,000 cells are used. Repeatable.",
            show_default=False,
            rich_help_panel=READING,
        ),
    ] = None,
    *,
    read: ReadOptions,
    gene_a: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the first gene.", rich_help_panel=READING)
    ] = None,
    gene_b: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the second gene.", rich_help_panel=READING)
    ] = None,
    score: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Column of the scores.", rich_help_panel=READING)
    ] = None,
    no_scores: Annotated[
        bool,
        typer.Option("--no-scores", help="Ignore scores: all edges have the same weight.", rich_help_panel=READING),
    ] = False,
    full_score: Annotated[
        float | None,
        typer.Option(metavar="X", help="Score that means certainty, such as 1000 in STRING.", rich_help_panel=READING),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0.0, max=1.0, metavar="X", help="Leave out edges with a lower score.", rich_help_panel=READING
        ),
    ] = None,
    encoder: Annotated[
        Literal["gin", "gat"] | None,
        typer.Option(help="Layers. \\[default: gin]", show_default=False, rich_help_panel=_LEARNING),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Optimiser steps; with --resume more or fewer. \\[default: 50]",
            show_default=False,
            rich_help_panel=_LEARNING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="N", help="Random seed.", rich_help_panel=_LEARNING),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="One setting, such as mask_rate=0.7 (docs/configuration.md). Repeatable.",
            rich_help_panel=_LEARNING,
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out with the same networks; settings not given stay those of the run. "
            "--steps extends or shortens it.",
        ),
    ] = False,
) -> int:
    """Read the networks, learn, save."""
    keep_large_blocks()
    says = messages(context)
    named = {"dim": dim, "encoder": encoder, "steps": steps, "seed": seed}
    config = _configure(out, settings or [], named, resume=resume)
    from cell_lm.pretraining.gene_run import pretrain_genes

    options = {"gene_a": gene_a, "gene_b": gene_b, "score": score, "full_score": full_score, "min_score": min_score}
    given = {name: value for name, value in options.items() if value is not None}
    found = _read_networks(networks, given | ({"no_scores": True} if no_scores else {}), says)
    expression = None
    if cells:
        expression = _read_expression(cells, read, says)
    result = pretrain_genes(found, config, out, expression=expression, resume=resume, progress=not says.quiet)
    if result.vectors is not None:
        says.result(f"{result.path}: {len(result.vectors):,} genes, width {result.vectors.width}")
        says.note("next:")
        says.note(f"cell-lm genes similar CD3D --vectors {result.path}", indent=2)
        says.note(f"cell-lm pretrain CELLS --gene-vectors {result.path} --out run", indent=2)
    return result.exit_code


def _configure(out: Path, pairs: list[str], options: Mapping[str, int | str | None], *, resume: bool) -> GraphMAEConfig:
    """Return the settings of the run.

    A folder in which the run cannot start or continue is refused before anything is read.
    """
    from cell_lm.cli.settings import read_settings
    from cell_lm.config import GraphMAEConfig, parse
    from cell_lm.pretraining.gene_run import gene_run_folder

    named = read_settings(pairs, GraphMAEConfig) | {key: value for key, value in options.items() if value is not None}
    folder, begun = gene_run_folder(out), dict[str, Any]()
    if resume:
        begun = folder.read_config().model_dump()
    else:
        folder.refuse_to_begin()
    config = parse(GraphMAEConfig, begun | named, where="settings of the command line")
    if resume:
        folder.refuse_settings(config)
    return config


def _read_networks(names: list[str], options: dict[str, Any], says: Messages) -> list[Network]:
    """Read every network; the options for columns and scores apply to those that are tables."""
    from cell_lm.genes.interactions import read_network

    networks = []
    tables = [name for name in names if name != "anat" and not Path(name).is_dir()]
    for name in names:
        mine = options.keys() if name in tables or not tables else {"min_score"} & options.keys()
        network = read_network(name, **{key: options[key] for key in mine})
        networks.append(network)
        says.note(f"{network.name}: {len(network):,} edges of {int(network.known.sum()):,} genes")
        for note in network.notes:
            says.note(note, indent=2)
    return networks


def _read_expression(files: list[Path], read: ReadOptions, says: Messages) -> sparse.csr_matrix[np.float32]:
    """Return the expression of the cells, float32 [cells, genes], log1p of counts per 10,000."""
    from cell_lm.cli.inputs import Inputs
    from cell_lm.data.loading.expression import expression_matrix

    return expression_matrix(Inputs.gather(files, [], [], None).read(read, says))


def similar(
    context: typer.Context,
    gene: Annotated[str, typer.Argument(help="Symbol, alias or Ensembl id.", show_default=False)],
    k: Annotated[int, typer.Option("-k", min=1, metavar="N", help="How many.")] = 10,
    vectors: Annotated[
        Path | None,
        typer.Option(
            readable=False,
            metavar="FILE",
            help="Vectors of cell-lm genes pretrain. \\[default: the packaged ones]",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Print the nearest genes by cosine."""
    from cell_lm.genes.vectors import GeneVectors

    read = GeneVectors.packaged() if vectors is None else GeneVectors.load(vectors)
    table = read.similar(gene, k)
    rows = [(str(row.gene), f"{row.cosine:.3f}") for row in table.itertuples()]
    messages(context).table(("gene", "cosine"), rows, numbers=1)
    return 0
