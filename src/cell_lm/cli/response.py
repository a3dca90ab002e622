"""``cell-lm response fit``, ``predict``, ``evaluate`` and ``rank``: which drug for which cell line, and how sure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import COMPUTING, Device, Force, Precision, Seed, output
from cell_lm.cli.response_options import (
    Confidence,
    Encoder,
    Expression,
    Folds,
    Graphs,
    LineReader,
    Lines,
    LineVectors,
    MaybeLines,
    Measured,
    Networks,
    NewDrugs,
    Regressor,
    RegressorFolder,
    Responses,
    Resume,
    TableReader,
    reads_lines,
    reads_responses,
)
from cell_lm.cli.response_shown import show_fit, show_ranking, show_scores, unit
from cell_lm.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from cell_lm.data.response import ResponseTable
    from cell_lm.tasks.response import DrugResponseRegressor

_FIT = """[bold]Examples[/bold]

  cell-lm response fit lines.h5ad --responses GDSC2_fitted_dose_response.csv --expression rma --out gdsc2
  cell-lm response fit lines.h5ad --responses mine.csv --line cell --drug compound --response ic50 --scale ic50 \\
      --smiles smiles --expression log2_tpm --out mine

[dim]Parts that are done are kept in FOLDER.unfinished until FOLDER is written; after Ctrl-C --resume goes on.[/dim]"""
_PREDICT = """[bold]Examples[/bold]

  cell-lm response predict new.h5ad --model gdsc2                            [dim]# every drug, with intervals[/dim]
  cell-lm response predict new.h5ad --model gdsc2 --measured ten_drugs.csv   [dim]# some are measured[/dim]
  cell-lm response predict new.h5ad --model gdsc2 --new-drug mine='CCOc1ccccc1'"""
_EVALUATE = """[bold]Example[/bold]

  cell-lm response evaluate test.h5ad --responses test.csv --model gdsc2 --unseen-lines"""
_RANK = """[bold]Examples[/bold]

  cell-lm response rank new.h5ad --model gdsc2 --for-line biopsy7    [dim]# drugs for a line[/dim]
  cell-lm response rank --model gdsc2 --for-drug Trametinib          [dim]# lines of the fit for a drug[/dim]"""


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    verbs = typer.Typer(
        help="Drug response of cell lines: fit on measured responses, predict, evaluate, rank.", rich_markup_mode="rich"
    )
    verbs.command("fit", help="Fit on a table of responses and the expression of the lines.", epilog=_FIT)(fit)
    verbs.command("predict", help="Predict the response of every line to every drug: write a table.", epilog=_PREDICT)(
        predict
    )
    verbs.command("evaluate", help="Score predictions of pairs that were not in the fit.", epilog=_EVALUATE)(evaluate)
    verbs.command("rank", help="Rank drugs for a line, or lines for a drug.", epilog=_RANK)(rank)
    app.add_typer(verbs, name="response")


@reads_responses()
@reads_lines()
def fit(
    context: typer.Context,
    lines: Lines,
    responses: Responses,
    expression: Expression,
    out: RegressorFolder,
    cells: LineVectors = "genes",
    encoder: Encoder = None,
    networks: Networks = 4,
    graphs: Graphs = False,
    folds: Folds = 5,
    confidence: Confidence = 0.9,
    seed: Seed = 0,
    resume: Resume = False,
    *,
    table: TableReader,
    how: LineReader,
    device: Device = "auto",
    precision: Precision = "float32",
    force: Force = False,
) -> int:
    """Read table and expression, fit, save the folder."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_estimator_folder
    from cell_lm.model import CellLM
    from cell_lm.tasks.response import DrugResponseRegressor
    from cell_lm.tasks.response.unfinished import discard

    says, inputs = messages(context), (lines, responses, encoder)
    refuse_estimator_folder(out, force=force, inputs=inputs)
    unfinished = _unfinished(out, says, resume=resume, force=force)
    if (cells == "genes") != (encoder is None):
        fix = "Name an encoder for --cells cell_lm or both, and none for genes"
        raise ConfigError(f"--cells {cells} with {'no' if encoder is None else 'an'} --encoder", fix=fix)
    says.note(f"reading {responses}")
    measured = table.read_and_tell(responses, says)
    regressor = DrugResponseRegressor(
        None if encoder is None else CellLM.from_pretrained(encoder),
        cells=cells,
        expression=expression,
        members=networks,
        graphs=graphs,
        folds=folds,
        confidence=confidence,
        seed=seed,
        device=None if device == "auto" else device,
        precision=precision,
    )
    if force and not resume:
        discard(unfinished)
    says.note(f"reading {lines}")
    with says.progress("fitting", regressor.parts) as done, _telling_how_to_go_on(unfinished, says):
        regressor.fit(
            lines,
            measured,
            line_column=how.line_column,
            checkpoint=unfinished,
            resume=resume,
            progress=done,
            read=how.read,
        )
    refuse_estimator_folder(out, force=force, inputs=inputs)  # another program may have made it meanwhile
    regressor.save(out)
    show_fit(regressor, measured, says)
    says.result(f"written: {out}")
    says.note("next:")
    says.note(f"cell-lm response predict my.h5ad --model {out}", indent=2)
    return 0


def _unfinished(out: Path, says: Messages, *, resume: bool, force: bool) -> Path:
    """Return the folder for the parts of a fit, after refusing one that holds those of another."""
    from cell_lm.tasks.response.unfinished import parts_done, refuse_unfinished

    place = out if out.name else out.absolute()  # of "."
    folder = place.with_name(f"{place.name}.unfinished")
    refuse_unfinished(folder, resume=resume or force)
    if resume:
        number = parts_done(folder)
        says.note(f"{number} parts of {folder} are done" if number else f"nothing to go on with in {folder}")
    return folder


@contextmanager
def _telling_how_to_go_on(folder: Path, says: Messages) -> Iterator[None]:
    """Say after an interruption how the fit goes on."""
    try:
        yield
    except KeyboardInterrupt:
        if folder.exists():
            says.result("stopped; go on with the same command and --resume")
        raise


@reads_responses()
@reads_lines()
def predict(
    context: typer.Context,
    model: Regressor,
    lines: MaybeLines = None,
    out: Annotated[
        Path | None, output("FILE.csv", "Table to write. \\[default: my.response.csv next to my.h5ad]")
    ] = None,
    drugs: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="DRUG", help="A drug of the fit; may be repeated. \\[default: all]"),
    ] = None,
    new_drugs: NewDrugs = None,
    measured: Measured = None,
    *,
    table: TableReader,
    how: LineReader,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Predict, write the table."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.files import write_csv

    says = messages(context)
    copy = out or (Path("lines_of_the_fit.response.csv") if lines is None else lines.with_suffix(".response.csv"))
    refuse_output_file(copy, force=force, inputs=(lines, model, measured), suffix=".csv")
    regressor = _load(model, device)
    given = None if measured is None else table.read_and_tell(measured, says)
    says.note("predicting")
    found = regressor.predict(lines, drugs=drugs or None, **_asked(new_drugs, given, how))
    write_csv(found, copy, replace=force)
    rows = [[str(name), f"{number:,}"] for name, number in found["known"].value_counts().items()]
    says.table(["what was known", "pairs"], rows, numbers=1)
    says.result(unit(regressor))
    says.result(f"written: {copy} ({len(found):,} pairs)")
    return 0


def _load(path: Path, device: str) -> DrugResponseRegressor:
    from cell_lm.cli.fitted import refuse_other_task
    from cell_lm.tasks.response import DrugResponseRegressor

    refuse_other_task(path, "response")
    regressor = DrugResponseRegressor.load(path)
    regressor.device = None if device == "auto" else device
    return regressor


def _asked(new_drugs: list[str] | None, measured: ResponseTable | None, how: LineReader) -> dict[str, Any]:
    """Return what is passed to the regressor along with the lines."""
    return {
        "new_drugs": _new_drugs(new_drugs),
        "measured": measured,
        "line_column": how.line_column,
        "read": how.read,
    }


def _new_drugs(words: list[str] | None) -> dict[str, str] | None:
    found = {}
    for word in words or []:
        name, equals, smiles = word.partition("=")
        if not equals or not name.strip() or not smiles.strip():
            raise ConfigError(f"'{word}' is no drug with its SMILES", where="--new-drug", fix="Write it NAME=SMILES")
        if name.strip() in found:
            raise ConfigError(f"'{name.strip()}' is given twice", where="--new-drug", fix="Give every drug one name")
        found[name.strip()] = smiles.strip()
    return found or None


@reads_responses()
@reads_lines()
def evaluate(
    context: typer.Context,
    responses: Responses,
    model: Regressor,
    lines: MaybeLines = None,
    unseen_lines: Annotated[
        bool, typer.Option("--unseen-lines", help="Refuse lines of the fit, so that the scores are those of new lines.")
    ] = False,
    out: Annotated[
        Path | None, output("FILE.csv", "Table of predicted and measured responses to write. \\[default: none]")
    ] = None,
    *,
    table: TableReader,
    how: LineReader,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Predict the measured pairs, show how well they agree."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_output_file

    says = messages(context)
    if out is not None:
        refuse_output_file(out, force=force, inputs=(lines, model, responses), suffix=".csv")
    regressor, measured = _load(model, device), table.read_and_tell(responses, says)
    scores, pairs = regressor.compare(
        lines, measured, line_column=how.line_column, unseen_lines=unseen_lines, read=how.read
    )
    show_scores(scores, pairs, regressor, says)
    _write(pairs, out, "pairs", says, force=force)
    return 0


@reads_responses()
@reads_lines()
def rank(
    context: typer.Context,
    model: Regressor,
    lines: MaybeLines = None,
    for_line: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rank drugs for this line.", show_default=False)
    ] = None,
    for_drug: Annotated[
        str | None, typer.Option(metavar="NAME", help="Rank lines for this drug.", show_default=False)
    ] = None,
    new_drugs: NewDrugs = None,
    measured: Measured = None,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Rows to show.", rich_help_panel=COMPUTING)] = 20,
    out: Annotated[Path | None, output("FILE.csv", "Table to write, of all rows. \\[default: none]")] = None,
    *,
    table: TableReader,
    how: LineReader,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Rank, show the first rows."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_output_file

    says = messages(context)
    if (for_line is None) == (for_drug is None):
        raise ConfigError("what to rank was not said, or twice", fix="Give one of --for-line and --for-drug")
    if out is not None:
        refuse_output_file(out, force=force, inputs=(lines, model, measured), suffix=".csv")
    regressor, given = _load(model, device), None if measured is None else table.read(measured)
    ranking = regressor.rank_lines if for_line is None else regressor.rank_drugs
    found = ranking(lines, str(for_drug or for_line), **_asked(new_drugs, given, how))
    axis = "line" if for_line is None else "drug"
    show_ranking(found.head(top), axis, regressor, says)
    _write(found, out, "rows", says, force=force)
    return 0


def _write(table: pd.DataFrame, path: Path | None, rows: str, says: Messages, *, force: bool) -> None:
    """Write a table where a file was named for it."""
    from cell_lm.files import write_csv

    if path is not None:
        write_csv(table, path, replace=force)
        says.result(f"written: {path} ({len(table):,} {rows})")
