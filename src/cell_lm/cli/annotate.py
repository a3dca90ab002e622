"""``cell-lm annotate``: transfer cell types from a reference, by a classifier of one's own or a ready one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.annotate_evaluate import EXAMPLES as EVALUATE
from cell_lm.cli.annotate_evaluate import evaluate
from cell_lm.cli.annotate_explain import EXAMPLES, explain
from cell_lm.cli.annotate_list import list_ready
from cell_lm.cli.annotate_options import (
    Annotator,
    GenesOf,
    Key,
    MajorityVoting,
    MinCells,
    OverClustering,
    UnknownRate,
    Unlabelled,
    UnlabelledCells,
    label_notes,
    words,
)
from cell_lm.cli.annotate_shown import show_fit
from cell_lm.cli.console import Messages, messages, show_coverage
from cell_lm.cli.options import (
    COMPUTING,
    CellsOrStore,
    ClassifierFolder,
    Device,
    FineTune,
    Force,
    Model,
    NoVerify,
    Precision,
    Seed,
    column,
    output,
)
from cell_lm.cli.read_options import reads_cells
from cell_lm.errors import InputError

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from cell_lm.data.obs.labels import Labels
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.tasks import Classifier

_FIT = """[bold]Examples[/bold]

  cell-lm annotate fit ref.h5ad --label cell_type --model run --out ann
  cell-lm annotate fit ref.h5ad --label cell_type --groups donor --model run --out ann
  cell-lm annotate fit ref.h5ad --label cell_type --unlabelled Unknown,NA --min-cells 5 --out ann
  cell-lm annotate fit ref.h5ad --label cell_type --genes-of panel.h5ad --out ann
  cell-lm annotate fit few.h5ad --label cell_type --unlabelled-cells my.h5ad --out ann"""
_PREDICT = """[bold]Examples[/bold]

  cell-lm annotate predict my.h5ad --model blood
  cell-lm annotate predict my.h5ad --model ann --probabilities probabilities.csv
  cell-lm annotate predict my.h5ad --model ann --unknown-rate 0.05 --majority-voting
  cell-lm annotate predict test.h5ad --model ann --truth cell_type"""


MANY = 0.25
"""Share of unknown cells from which predict says what that can mean."""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(
        help="Annotate cell types: by a ready annotator, or fit on labelled cells; predict, evaluate, explain.",
        rich_markup_mode="rich",
    )
    verbs.command("fit", help="Fit a classifier on labelled cells.", epilog=_FIT)(fit)
    verbs.command("predict", help="Predict cell types: write a copy of the file with them in obs.", epilog=_PREDICT)(
        predict
    )
    verbs.command(
        "explain", help="Show which genes led to the predicted types: write a table of genes by type.", epilog=EXAMPLES
    )(explain)
    verbs.command("evaluate", help="Score a classifier on cells of known type.", epilog=EVALUATE)(evaluate)
    verbs.command("list", help="List the ready annotators: types, data, scores on unseen donors.")(list_ready)
    app.add_typer(verbs, name="annotate")


@reads_cells()
def fit(
    context: typer.Context,
    cells: CellsOrStore,
    label: Annotated[str, column("Column of obs that holds the cell types.")],
    out: ClassifierFolder,
    model: Model = "small",
    groups: Annotated[
        str | None,
        column(
            "Column of obs, such as the donor, whose groups stay in one fold when cross-validation tunes the "
            "classifier. \\[default: cells are split one by one]"
        ),
    ] = None,
    unlabelled: Unlabelled = None,
    min_cells: MinCells = None,
    genes_of: GenesOf = None,
    unlabelled_cells: UnlabelledCells = None,
    fine_tune: FineTune = None,
    seed: Seed = 0,
    *,
    read: ReadOptions,
    device: Device = "auto",
    precision: Precision = "float32",
    no_verify: NoVerify = False,
    force: Force = False,
) -> int:
    """Read the reference, fit the classifier, save the folder, show its scores."""
    keep_large_blocks()
    from cell_lm.cli.cells_file import further_files
    from cell_lm.cli.outputs import refuse_estimator_folder
    from cell_lm.data.opening import Opened, is_store, open_data, open_each
    from cell_lm.data.read_options import ReadOptions
    from cell_lm.data.store import Store
    from cell_lm.engine.device import choose_device
    from cell_lm.model import CellLM
    from cell_lm.tasks.annotation import CellTypeClassifier

    says = messages(context)
    further = further_files(unlabelled_cells, cells, "--unlabelled-cells")
    inputs = (cells, model, genes_of, *further)
    refuse_estimator_folder(out, force=force, inputs=inputs)
    choose_device(device)
    encoder = CellLM.from_pretrained(model)
    says.note(f"reading {cells}")
    held = Store.open(cells, verify=not no_verify) if is_store(cells) else cells
    reference = open_data(held, encoder.vocabulary, read)
    extra = open_each(further, encoder.vocabulary, read)
    shared = None if genes_of is None else Opened(genes_of, ReadOptions() if is_store(genes_of) else read)
    classifier = CellTypeClassifier(encoder, fine_tune=fine_tune, seed=seed, device=device, precision=precision)
    with label_notes(says), says.progress("embedding", len(reference)) as done:
        classifier.fit(
            reference,
            label,
            groups=groups,
            missing_labels=words(unlabelled),
            min_cells=min_cells,
            genes_of=shared,
            unlabelled=extra,
            progress=done,
        )
    # another program may have made it meanwhile
    refuse_estimator_folder(out, force=force, inputs=inputs)
    classifier.save(out)
    show_fit(classifier, says)
    says.result(f"classifier: {out}")
    says.note("next:")
    says.note(f"cell-lm annotate predict my.h5ad --model {out}", indent=2)
    return 0


@reads_cells()
def predict(
    context: typer.Context,
    cells: CellsOrStore,
    model: Annotator,
    out: Annotated[
        Path | None, output("FILE.h5ad", "File to write. \\[default: my.annotated.h5ad next to my.h5ad]")
    ] = None,
    key: Key = "cell_lm",
    unknown_rate: UnknownRate = None,
    majority_voting: MajorityVoting = False,
    over_clustering: OverClustering = None,
    probabilities: Annotated[
        Path | None,
        output("FILE", "Table to write, csv or parquet: a row for each cell with the probability of each type."),
    ] = None,
    truth: Annotated[
        str | None,
        column(
            "Column of obs with the true cell types, to score the predicted ones against. Score only cells that the "
            "classifier was not fitted on."
        ),
    ] = None,
    unlabelled: Unlabelled = None,
    *,
    read: ReadOptions,
    device: Device = "auto",
    precision: Annotated[
        Literal["float32", "bfloat16"] | None,
        typer.Option(
            help="Precision of the encoder. \\[default: that of the fit]",
            show_default=False,
            rich_help_panel=COMPUTING,
        ),
    ] = None,
    no_verify: NoVerify = False,
    force: Force = False,
) -> int:
    """Read the cells, predict, write the copy, show the predicted types."""
    keep_large_blocks()
    from cell_lm import tl
    from cell_lm.cli.cells_file import naming, obs_of, read_file_or_store, warn_of, write_cells_file
    from cell_lm.cli.fitted import refuse_other_task
    from cell_lm.cli.outputs import refuse_key, refuse_output_file, refuse_table
    from cell_lm.data.obs.cell_types import LabelRules, read_cell_types, warn_of_no_shared_type
    from cell_lm.data.obs.columns import obs_column
    from cell_lm.engine.device import choose_device
    from cell_lm.files import write_table
    from cell_lm.tasks import Classifier
    from cell_lm.tl.annotation import CALLS

    says, copy = messages(context), out or cells.with_suffix(".annotated.h5ad")
    refuse_key(key)
    refuse_output_file(copy, force=force, inputs=(cells, model), suffix=".h5ad")
    if probabilities is not None:
        refuse_table(probabilities, force=force, inputs=(cells, model), option="--probabilities")
    choose_device(device)
    refuse_other_task(model, "annotate")
    classifier = Classifier.load(model)
    says.note(f"reading {cells}")
    data = read_file_or_store(cells, classifier.vocabulary, read, verify=not no_verify)
    _refuse_older_call(obs_of(data, f"{key}_label"), key, cells, force=force)
    if over_clustering is not None:
        obs_column(obs_of(data, over_clustering), over_clustering, where=str(cells))
    with label_notes(says):
        labels = None
        if truth is not None:
            rules = LabelRules(words(unlabelled))
            labels = read_cell_types(obs_of(data, truth), truth, where=str(cells), rules=rules, training=False)
            warn_of_no_shared_type(labels, classifier.classes_, truth, where=str(cells))
    with naming(cells), says.progress("annotating", len(data)) as done:
        made = tl.annotate(
            data,
            classifier,
            key_added=key,
            probabilities=probabilities is not None,
            unknown=unknown_rate,
            read=read,
            device=device,
            precision=precision,
            progress=done,
        )
    adata: AnnData = data if made is None else made
    if majority_voting or over_clustering is not None:
        with naming(cells):
            _vote(adata, data, classifier, key, over_clustering, read)
    about = adata.uns[f"{key}_annotation"]
    about["classifier_path"] = str(model)
    if probabilities is not None:
        write_table(_probability_table(adata, key), probabilities, replace=force)
    write_cells_file(adata, copy, says, force=force)
    _show_types(adata, key, says)
    if labels is not None:
        _show_scores(adata, key, labels, says)
    show_coverage(about, says)
    warn_of(about, says)
    if probabilities is not None:
        says.result(f"written: {probabilities} (probabilities of {len(about['classes']):,} types)")
    columns = ", ".join(name for name in (f"{key}_{part}" for part in CALLS) if name in adata.obs)
    says.result(f"written: {copy} (obs {columns})")
    return 0


def _vote(
    adata: AnnData, data: Any, classifier: Classifier, key: str, over_clustering: str | None, read: ReadOptions
) -> None:
    """Let the clusters of a column, or of the embedding of ``data``, vote on the calls in ``adata``."""
    from cell_lm import tl
    from cell_lm.tasks import CellTypeClassifier

    if over_clustering is None and "X_cell_lm" not in adata.obsm:
        if not isinstance(classifier, CellTypeClassifier):
            fix = "Name --over-clustering COLUMN"
            raise InputError("it has no embedding to make clusters of", where="majority voting", fix=fix)
        made = tl.embed(data, classifier.encoder_, read=read)
        if made is not None:
            adata.obsm["X_cell_lm"] = made.obsm["X_cell_lm"]
    tl.majority_vote(adata, key=key, over_clustering=over_clustering)


def _refuse_older_call(obs: pd.DataFrame, key: str, path: Path, *, force: bool) -> None:
    """Refuse to overwrite the columns of an earlier call."""
    from cell_lm.tl.annotation import CALLS

    there = [name for name in (f"{key}_{part}" for part in CALLS) if name in obs.columns]
    if there and not force:
        found = f"obs has {' and '.join(map(repr, there))} already, of an earlier call"
        raise InputError(found, where=str(path), fix="Choose another prefix with --key, or overwrite it with --force")


def _probability_table(adata: AnnData, key: str) -> pd.DataFrame:
    """Return the probabilities of all types, one row for each cell, and remove them from the file to write."""
    import pandas as pd

    table = pd.DataFrame(adata.obsm.pop(f"{key}_proba"), columns=list(adata.uns[f"{key}_annotation"]["classes"]))
    table.insert(0, "cell", adata.obs_names.astype(str), allow_duplicates=True)
    return table


def _show_types(adata: AnnData, key: str, says: Messages) -> None:
    from cell_lm.tasks.annotation.unknown import UNKNOWN

    labels = adata.obs[f"{key}_label"]
    confidence = adata.obs[f"{key}_confidence"].groupby(labels, observed=True).median()
    counts = labels.value_counts()
    rows = [
        [str(name), f"{number:,}", f"{number / adata.n_obs:.1%}", f"{confidence[name]:.2f}"]
        for name, number in counts[counts > 0].items()
    ]
    says.table(["predicted type", "cells", "share", "median confidence"], rows, numbers=3)
    unknown = int((labels == UNKNOWN).sum())
    if unknown > MANY * adata.n_obs:
        says.note(f"note: {unknown:,} of {adata.n_obs:,} cells are called unknown. Either the reference lacks their")
        says.note("types: choose one of their tissue (cell-lm annotate list). Or they come from another protocol or")
        says.note("laboratory, which makes all of them unlike it: --unknown-rate 0 names every cell.")


def _show_scores(adata: AnnData, key: str, truth: Labels, says: Messages) -> None:
    from cell_lm.evaluation.annotation_metrics import annotation_scores
    from cell_lm.report.numbers import score

    predicted = adata.obs[f"{key}_label"].astype(str).to_numpy()
    scores = annotation_scores(truth.text[truth.known], predicted[truth.known])
    rows = [
        [str(name), f"{row['support']:.0f}", *(score(row[key]) for key in ("precision", "recall", "f1"))]
        for name, row in scores.per_class.iterrows()
    ]
    says.result()
    says.table(["true type", "cells", "precision", "recall", "F1"], rows, numbers=4)
    says.result(f"accuracy {scores.accuracy:.3f}, macro-F1 {scores.macro_f1:.3f} on {scores.cells:,} labelled cells")
