"""``cell-lm response fit``, ``predict``, ``evaluate`` and ``rank``: which drug for which cell line, and how sure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cell_lm.cli.allocator import keep_large_blocks
from cell_lm.cli.console import Messages, messages
from cell_lm.cli.options import COMPUTING, WRITING, Device, Force, Precision
from cell_lm.cli.response_options import LineReader, Lines, TableReader, reads_lines, reads_responses
from cell_lm.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from cell_lm.data.response import ResponseTable
    from cell_lm.evaluation.regression import ResponseScores
    from cell_lm.tasks.response import DrugResponseRegressor

_FIT = """[bold]Examples[/bold]

  cell-lm response fit lines.h5ad --responses GDSC2_fitted_dose_response.csv --expression rma --out gdsc2
  cell-lm response fit lines.h5ad --responses mine.csv --line cell --drug compound --response ic50 --scale ic50 \\
      --smiles smiles --expression log2_tpm --out mine"""
_PREDICT = """[bold]Examples[/bold]

  cell-lm response predict new.h5ad --model gdsc2                            [dim]# every drug, with intervals[/dim]
  cell-lm response predict new.h5ad --model gdsc2 --measured ten_drugs.csv   [dim]# some are measured[/dim]
  cell-lm response predict new.h5ad --model gdsc2 --new-drug mine='CCOc1ccccc1'"""
_EVALUATE = """[bold]Example[/bold]

  cell-lm response evaluate test.h5ad --responses test.csv --model gdsc2 --unseen-lines"""
_RANK = """[bold]Examples[/bold]

  cell-lm response rank new.h5ad --model gdsc2 --for-line biopsy7    [dim]# drugs for a line[/dim]
  cell-lm response rank --model gdsc2 --for-drug Trametinib          [dim]# lines of the fit for a drug[/dim]"""

Responses = Annotated[
    Path,
    typer.Option(
        readable=False,
        metavar="FILE",
        help="Table of responses: csv, tsv, xlsx or parquet; GDSC's and PRISM's own files are known.",
        show_default=False,
    ),
]
Measured = Annotated[
    Path | None,
    typer.Option(
        readable=False,
        metavar="FILE",
        help="Table of responses that were measured in these lines; they sharpen the others.",
        show_default=False,
    ),
]
NewDrugs = Annotated[
    list[str] | None,
    typer.Option(
        "--new-drug",
        metavar="NAME=SMILES",
        help="A drug that was never measured; may be repeated.",
        show_default=False,
    ),
]
Regressor = Annotated[
    Path,
    typer.Option(
        "--model", readable=False, metavar="FOLDER", help="What cell-lm response fit wrote.", show_default=False
    ),
]
MaybeLines = Annotated[
    Path | None,
    typer.Argument(
        readable=False,
        metavar="[LINES]",
        help="Expression of the lines. \\[default: the lines of the fit]",
        show_default=False,
    ),
]


def _out(what: str) -> object:
    return typer.Option(readable=False, metavar="FILE.csv", help=what, show_default=False, rich_help_panel=WRITING)


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
    expression: Annotated[
        Literal["rma", "log2_tpm", "counts"],
        typer.Option(
            help="What the expression matrix holds: RMA (log2 of intensities), log2 of 1 + TPM, or counts; it is "
            "checked.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            readable=False, metavar="FOLDER", help="Folder to write.", show_default=False, rich_help_panel=WRITING
        ),
    ],
    cells: Annotated[
        Literal["genes", "cell_lm", "both"],
        typer.Option(help="Vector of a line: its genes, the embedding of an encoder (--encoder), or both."),
    ] = "genes",
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="FOLDER", help="Run or model folder of the encoder, for cell_lm and both.", show_default=False
        ),
    ] = None,
    networks: Annotated[
        int, typer.Option(min=0, metavar="N", help="Networks in the neural part; 0: closed forms only.")
    ] = 4,
    graphs: Annotated[
        bool, typer.Option("--graphs", help="Train the graph encoder of molecules, for the mean of new drugs.")
    ] = False,
    folds: Annotated[
        int, typer.Option(min=2, metavar="N", help="Folds in which lines are left out, for the intervals.")
    ] = 5,
    confidence: Annotated[
        float, typer.Option(min=0.5, max=0.999, metavar="P", help="Probability that an interval holds the response.")
    ] = 0.9,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Random seed.")] = 0,
    *,
    table: TableReader,
    how: LineReader,
    device: Device = "auto",
    precision: Precision = "float32",
    force: Force = False,
) -> int:
    """Read table and expression, fit, save the folder."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_output_folder
    from cell_lm.model import CellLM
    from cell_lm.tasks import folder
    from cell_lm.tasks.response import DrugResponseRegressor

    says, names = messages(context), {folder.MANIFEST, folder.ARRAYS, folder.MODEL}
    refuse = partial(refuse_output_folder, kind="an estimator", mark=folder.MANIFEST, names=names)
    inputs = (lines, responses, encoder)
    refuse(out, force=force, inputs=inputs)
    if (cells == "genes") != (encoder is None):
        fix = "Name an encoder for --cells cell_lm or both, and none for genes"
        raise ConfigError(f"--cells {cells} with {'no' if encoder is None else 'an'} --encoder", fix=fix)
    says.note(f"reading {responses}")
    measured = table.read(responses)
    _show_table(measured, says)
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
    says.note(f"reading {lines}")
    with says.progress("fitting", regressor.parts) as done:
        regressor.fit(lines, measured, line_column=how.line_column, progress=done, read=how.read)
    refuse(out, force=force, inputs=inputs)  # another program may have made it meanwhile
    regressor.save(out)
    _show_fit(regressor, measured, says)
    says.result(f"written: {out}")
    says.note("next:")
    says.note(f"cell-lm response predict my.h5ad --model {out}", indent=2)
    return 0


def _show_table(table: ResponseTable, says: Messages) -> None:
    for remark in table.remarks:
        says.note(remark, indent=2)


def _show_fit(regressor: DrugResponseRegressor, table: ResponseTable, says: Messages) -> None:
    lines, without = len(regressor.lines_), len(table.lines) - len(regressor.lines_)
    left_out = f" ({without:,} lines of the table without expression were left out)" if without else ""
    says.result(f"fitted on {lines:,} lines and {len(regressor.drugs_):,} drugs{left_out}")
    cold = regressor.model_.cold
    if cold is None:
        says.result("new drugs cannot be predicted: too few drugs have a SMILES (--smiles)")
    else:
        says.result(f"new drugs are predicted by the structure of {len(cold.columns):,} drugs")


@reads_responses()
@reads_lines()
def predict(
    context: typer.Context,
    model: Regressor,
    lines: MaybeLines = None,
    out: Annotated[Path | None, _out("Table to write. \\[default: my.response.csv next to my.h5ad]")] = None,
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
    found = _predict(regressor, lines, drugs, new_drugs, measured, table, how, says)
    write_csv(found, copy, replace=force)
    rows = [[str(name), f"{number:,}"] for name, number in found["known"].value_counts().items()]
    says.table(["what was known", "pairs"], rows, numbers=1)
    says.result(_unit(regressor))
    says.result(f"written: {copy} ({len(found):,} pairs)")
    return 0


def _unit(regressor: DrugResponseRegressor) -> str:
    unit = "ln of the IC50 in µM" if regressor.unit_ == "ln_ic50" else "area under the dose-response curve"
    return f"response: {unit}; low and high: {regressor.confidence:.0%} interval"


def _load(path: Path, device: str) -> DrugResponseRegressor:
    from cell_lm.tasks.response import DrugResponseRegressor

    regressor = DrugResponseRegressor.load(path)
    regressor.device = None if device == "auto" else device
    return regressor


def _predict(
    regressor: DrugResponseRegressor,
    lines: Path | None,
    drugs: list[str] | None,
    new_drugs: list[str] | None,
    measured: Path | None,
    table: TableReader,
    how: LineReader,
    says: Messages,
) -> pd.DataFrame:
    given = None if measured is None else table.read(measured)
    if given is not None:
        _show_table(given, says)
    says.note("predicting")
    return regressor.predict(
        lines,
        drugs=drugs or None,
        new_drugs=_new_drugs(new_drugs),
        measured=given,
        line_column=how.line_column,
        read=how.read,
    )


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
    out: Annotated[Path | None, _out("Table of predicted and measured responses to write. \\[default: none]")] = None,
    *,
    table: TableReader,
    how: LineReader,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Predict the measured pairs, show how well they agree."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.files import write_csv

    says = messages(context)
    if out is not None:
        refuse_output_file(out, force=force, inputs=(lines, model, responses), suffix=".csv")
    regressor, measured = _load(model, device), table.read(responses)
    _show_table(measured, says)
    scores, pairs = regressor.compare(
        lines, measured, line_column=how.line_column, unseen_lines=unseen_lines, read=how.read
    )
    _show_scores(scores, pairs, regressor, says)
    if out is not None:
        write_csv(pairs, out, replace=force)
        says.result(f"written: {out} ({len(pairs):,} pairs)")
    return 0


def _show_scores(scores: ResponseScores, pairs: pd.DataFrame, regressor: DrugResponseRegressor, says: Messages) -> None:
    inside = pairs["truth"].between(pairs["low"], pairs["high"])[pairs["low"].notna()].mean()
    rows = [
        ["Pearson over all pairs (drug means alone reach most of it)", f"{scores.pearson:.3f}"],
        [f"Pearson within drugs, mean of {scores.drugs:,}", f"{scores.pearson_per_drug:.3f}"],
        ["Pearson after mean effects are subtracted", f"{scores.normalised_pearson:.3f}"],
        ["Spearman over all pairs", f"{scores.spearman:.3f}"],
        ["RMSE", f"{scores.rmse:.3f}"],
        [f"inside the {regressor.confidence:.0%} interval", f"{inside:.1%}"],
    ]
    says.table(["score", "value"], rows, numbers=1)
    kinds = ", ".join(f"{number:,} {name}" for name, number in pairs["known"].value_counts().items())
    says.result(f"{len(pairs):,} pairs: {kinds}")


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
    out: Annotated[Path | None, _out("Table to write, of all rows. \\[default: none]")] = None,
    *,
    table: TableReader,
    how: LineReader,
    device: Device = "auto",
    force: Force = False,
) -> int:
    """Rank, show the first rows."""
    keep_large_blocks()
    from cell_lm.cli.outputs import refuse_output_file
    from cell_lm.files import write_csv

    says = messages(context)
    if (for_line is None) == (for_drug is None):
        raise ConfigError("what to rank was not said, or twice", fix="Give one of --for-line and --for-drug")
    if out is not None:
        refuse_output_file(out, force=force, inputs=(lines, model, measured), suffix=".csv")
    regressor, given = _load(model, device), None if measured is None else table.read(measured)
    ranking = regressor.rank_lines if for_line is None else regressor.rank_drugs
    found = ranking(
        lines,
        str(for_drug or for_line),
        new_drugs=_new_drugs(new_drugs),
        measured=given,
        line_column=how.line_column,
        read=how.read,
    )
    axis = "line" if for_line is None else "drug"
    rows = [
        [
            str(row[axis]),
            f"{row['response']:.2f}",
            _bounds(row["low"], row["high"]),
            f"{row['score']:+.2f}",
            row["known"],
        ]
        for _, row in found.head(top).iterrows()
    ]
    says.table([axis, "response", "interval", "score", "known"], rows)
    says.result(f"{_unit(regressor)}; score: standard deviations from the mean of the drug")
    if out is not None:
        write_csv(found, out, replace=force)
        says.result(f"written: {out} ({len(found):,} rows)")
    return 0


def _bounds(low: float, high: float) -> str:
    return "measured" if low != low else f"{low:.2f} to {high:.2f}"
