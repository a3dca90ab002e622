"""``cell-lm malignancy fit`` and ``predict``: which cells are tumour cells."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages, show_coverage
from cell_lm.cli.options import (
    CellsOrStore,
    ClassifierFolder,
    Device,
    Force,
    Model,
    Precision,
    Seed,
    column,
    output,
    source,
)
from cell_lm.cli.read_options import reads_cells
from cell_lm.cli.run_options import NormalValues, TumourValues, UnknownValues
from cell_lm.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cell_lm.data.obs.malignancy import MalignancyColumn
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.tasks.column_estimator import Target
    from cell_lm.tasks.malignancy import MalignancyClassifier

KEY = "cell_lm_malignancy"
_LISTED = 8
"""Most values of a column that a message lists."""

_FIT = """[bold]Examples[/bold]

  cell-lm malignancy fit ref.h5ad --malignancy-column malignant --groups donor --out mal
  cell-lm malignancy fit ref.h5ad --malignancy-column kind --tumour Epithelial --normal 'T cell,B cell' --out mal"""
_PREDICT = """[bold]Examples[/bold]

  cell-lm malignancy predict my.h5ad --model mal
  cell-lm malignancy predict my.h5ad --model run     [dim]# a run pretrained with --malignancy-column[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(
        help="Tumour or normal cell: from your labels, or by a model pretrained with such labels.",
        rich_markup_mode="rich",
    )
    verbs.command("fit", help="Fit a classifier on cells that are known to be tumour or normal.", epilog=_FIT)(fit)
    verbs.command("predict", help="Call cells: write a copy of the file with the calls in obs.", epilog=_PREDICT)(
        predict
    )
    app.add_typer(verbs, name="malignancy")


@reads_cells()
def fit(
    context: typer.Context,
    cells: CellsOrStore,
    malignancy_column: Annotated[
        str,
        column(
            "Column of obs with tumour and normal cells. Values such as tumour, malignant, normal and healthy are "
            "recognised; yes and no as well if the column is called, for example, 'malignant'. Other cells are left "
            "out."
        ),
    ],
    out: ClassifierFolder,
    tumour: TumourValues = None,
    normal: NormalValues = None,
    unknown: UnknownValues = None,
    model: Model = "small",
    groups: Annotated[
        str | None,
        column(
            "Column of obs with the donors: whole donors are left out to calibrate. \\[default: cells are left out]"
        ),
    ] = None,
    seed: Seed = 0,
    *,
    read: ReadOptions,
    device: Device = "auto",
    precision: Precision = "float32",
    force: Force = False,
) -> int:
    """Read the cells, fit, save the folder."""
    keep_large_blocks()
    from cell_lm.cli.inputs import read_malignancy_options
    from cell_lm.cli.outputs import refuse_estimator_folder
    from cell_lm.data.opening import open_data
    from cell_lm.engine.device import choose_device
    from cell_lm.model import CellLM
    from cell_lm.tasks.malignancy import MalignancyClassifier

    says = messages(context)
    refuse_estimator_folder(out, force=force, inputs=(cells, model))
    choose_device(device)
    meanings = {"tumour": tumour or [], "normal": normal or [], "unknown": unknown or []}
    named = read_malignancy_options(malignancy_column, meanings)
    assert named is not None
    encoder = CellLM.from_pretrained(model)
    says.note(f"reading {cells}")
    reference = open_data(cells, encoder.vocabulary, read)
    _refuse_absent_values(reference.obs([malignancy_column]), named, cells)
    classifier = MalignancyClassifier(encoder, values=dict(named.values), seed=seed, device=device, precision=precision)
    with says.progress("embedding", len(reference)) as done:
        classifier.fit(reference, malignancy_column, groups=groups, progress=done)
    refuse_estimator_folder(out, force=force, inputs=(cells, model))  # another program may have made it meanwhile
    classifier.save(out)
    _show_fit(classifier, says)
    says.result(f"classifier: {out}")
    says.note("next:")
    says.note(f"cell-lm malignancy predict my.h5ad --model {out}", indent=2)
    return 0


def _refuse_absent_values(obs: pd.DataFrame, named: MalignancyColumn, path: Path) -> None:
    """Refuse values of --tumour, --normal and --unknown that no cell has: they are misspelt."""
    from cell_lm.data.obs.columns import as_text, obs_column

    values = obs_column(obs, named.column, where=str(path)).dropna().map(as_text).value_counts()
    absent = [(value, meaning) for value, meaning in named.values.items() if value not in values.index]
    if not absent:
        return
    value, meaning = absent[0]
    shown = ", ".join(f"'{name}' ({cells:,} cells)" for name, cells in values.head(_LISTED).items())
    more = f" and {len(values) - _LISTED:,} more" if len(values) > _LISTED else ""
    found = f"no cell has '{value}' (--{meaning}) in obs column '{named.column}'"
    raise InputError(found, where=str(path), fix=f"Its values are {shown}{more}")


def _show_fit(classifier: MalignancyClassifier, says: Messages) -> None:
    sizes, without = classifier.cells_per_class_, classifier.unlabelled_
    left_out = f" ({without:,} of unknown kind were left out)" if without else ""
    says.result(f"fitted on {sizes['tumour']:,} tumour and {sizes['normal']:,} normal cells{left_out}")
    unit = classifier.likeness_.unit
    says.result(
        f"calibrated on left-out {unit}s; {classifier.likeness_.rate:.0%} of their cells count as unlike the fit"
    )
    if unit == "cell":
        says.warn("no --groups: cells of one donor are alike, so for new donors confidence is too high")


@reads_cells()
def predict(
    context: typer.Context,
    cells: CellsOrStore,
    model: Annotated[
        Path, source("FOLDER", "Classifier of cell-lm malignancy fit; or a run or model pretrained with labels.")
    ],
    out: Annotated[
        Path | None, output("FILE.h5ad", "File to write. \\[default: my.malignancy.h5ad next to my.h5ad]")
    ] = None,
    truth: Annotated[
        str | None,
        column("Column of obs with the truth, to score the calls. Score only donors that were not in the fit."),
    ] = None,
    tumour: TumourValues = None,
    normal: NormalValues = None,
    unknown: UnknownValues = None,
    *,
    read: ReadOptions,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Read the cells, call them, write the copy, show the summary."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, obs_of, read_file_or_store, warn_of, write_cells_file
    from cell_lm.cli.fitted import refuse_other_task
    from cell_lm.cli.inputs import read_malignancy_options
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.engine.device import choose_device
    from cell_lm.tasks.malignancy.classifier import read_kinds
    from cell_lm.tl.malignancy import opened

    says, copy = messages(context), out or cells.with_suffix(".malignancy.h5ad")
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    choose_device(device)
    meanings = {"tumour": tumour or [], "normal": normal or [], "unknown": unknown or []}
    named = read_malignancy_options(truth, meanings)
    refuse_other_task(model, "malignancy")
    given, _ = opened(model)
    says.note(f"reading {cells}")
    data = read_file_or_store(cells, given.vocabulary, read)
    known = None if named is None else read_kinds(obs_of(data, named.column), named, where=str(cells), both=False)
    with naming(cells), says.progress("calling", len(data)) as done:
        made = tl.malignancy(data, given, read=read, device=device, progress=done)
    adata: AnnData = data if made is None else made
    write_cells_file(adata, copy, says, force=force)
    _show_calls(adata, says)
    if known is not None:
        _show_scores(adata, known, cells, says)
    show_coverage(adata.uns[KEY], says)
    warn_of(adata.uns[KEY], says)
    says.result(f"written: {copy} (obs {', '.join(name for name in adata.obs if str(name).startswith(KEY))})")
    return 0


def _show_calls(adata: AnnData, says: Messages) -> None:
    calls, doubt, about = adata.obs[f"{KEY}_call"].astype(str), adata.obs[f"{KEY}_uncertain"], adata.uns[KEY]
    tumour = int((calls == "tumour").sum())
    says.result(f"{tumour:,} of {adata.n_obs:,} cells called tumour, {int(doubt.sum()):,} calls uncertain")
    if about["source"] == "classifier":
        says.result(
            f"{about['unlike']:.1%} of the cells are unlike those of the fit ({about['unlike_rate']:.0%} expected)"
        )
    else:
        says.result("by the pretrained head: not calibrated, and not known how unlike its training cells these are")


def _show_scores(adata: AnnData, known: Target, cells: Path, says: Messages) -> None:
    from cell_lm.tasks.malignancy.classifier import binary_scores

    truth, probability = known.values[known.known] == "tumour", adata.obs[KEY].to_numpy()[known.known]
    if truth.all() or not truth.any():
        says.note(f"note: all {len(truth):,} cells of known kind are of one kind: there is nothing to score")
        return
    scores = binary_scores(truth, probability, where=str(cells))
    says.table(
        ["score", "value"], [[name.upper(), f"{value:.3f}"] for name, value in scores.to_json().items()], numbers=1
    )
    says.result(f"on {scores.cells:,} cells of known kind, {scores.sensitive:,} of them tumour cells")
