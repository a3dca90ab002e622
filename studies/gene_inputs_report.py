"""Tables of ``studies.gene_inputs``, from the results that exist."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cell_lm.genes.vectors import GeneVectors
from cell_lm.genes.vocabulary import Vocabulary
from studies.arms import spread
from studies.gene_inputs_settings import Settings

VECTORS = "vectors.json"
REFERENCE = "random"
ORDER = ("logistic regression", "before pretraining", REFERENCE)

Figures: TypeAlias = dict[str, dict[str, dict[int, float]]]
"""``{arm: {figure: {seed: value}}}``."""


def report(out: Path, files: Mapping[str, Path], *, only: Settings | None = None) -> Iterator[str]:
    """Yield Markdown tables of each set of settings that there are results of, and a last line of JSON for each.

    Parameters
    ----------
    out
        Folder of the results.
    files
        Gene vectors whose genes are called known; none: those that the last run in ``out`` named.
    only
        Leave out the results of other settings.
    """
    known = _known(out, files)
    for settings, results in _by_settings(out).items():
        if only is None or settings == only:
            yield from _report_one(settings, _figures(results, known))


def _report_one(settings: Settings, figures: Figures) -> Iterator[str]:
    columns = _columns(settings, figures)
    yield f"{settings.cells:,} cells, encoder {settings.encoder}, at most {settings.max_genes:,} genes of a cell"
    yield "" if len(settings.targets) == 1 else f"Probes: mean over {', '.join(settings.targets)}."
    yield from _table(columns, {arm: {key: _values(values, key) for key in columns} for arm, values in figures.items()})
    compared = {arm: values for arm, values in figures.items() if arm != REFERENCE}
    if REFERENCE in figures and compared:
        yield f"Difference from {REFERENCE}, seed by seed (seeds in which it is better):"
        yield from _differences(columns, compared, figures[REFERENCE])
    for target in settings.targets if len(settings.targets) > 1 else ():
        own = {f"{target}.{key}": title for key, title in columns.items() if not key.startswith("masked")}
        yield f"{target}:"
        yield from _table(own, {arm: {key: _values(values, key) for key in own} for arm, values in figures.items()})
    yield json.dumps(_summary(settings, figures))


def _columns(settings: Settings, figures: Figures) -> dict[str, str]:
    """Return figures and their titles, those that any arm has."""
    titles = {"masked": "masked LM", "masked_known": "… known genes", "masked_other": "… others", "probe": "80/20"}
    titles |= {f"shots_{count}": f"{count} a type" for count in settings.shots}
    return {key: title for key, title in titles.items() if any(key in values for values in figures.values())}


def _table(columns: Mapping[str, str], rows: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterator[str]:
    yield from _head(columns)
    for arm, values in rows.items():
        seeds = max((len(each) for each in values.values()), default=0)
        yield f"| {arm} | {seeds} | " + " | ".join(spread(values[key]) for key in columns) + " |"
    yield ""


def _head(columns: Mapping[str, str]) -> Iterator[str]:
    yield "| arm | seeds | " + " | ".join(columns.values()) + " |"
    yield "|---" * (len(columns) + 2) + "|"


def _differences(
    columns: Mapping[str, str], figures: Figures, reference: Mapping[str, Mapping[int, float]]
) -> Iterator[str]:
    yield from _head(columns)
    for arm, values in figures.items():
        cells = [paired(values.get(key, {}), reference.get(key, {})) for key in columns]
        seeds = max((len(each) for each in cells), default=0)
        shown = [_difference(each, key) for key, each in zip(columns, cells, strict=True)]
        yield f"| {arm} | {seeds} | " + " | ".join(shown) + " |"
    yield ""


def _difference(values: Sequence[float], key: str) -> str:
    better = sum(value < 0 if key.startswith("masked") else value > 0 for value in values)
    return f"{spread(values, sign=True)} ({better})" if values else ""


def paired(values: Mapping[int, float], reference: Mapping[int, float]) -> list[float]:
    """Return the difference in each seed that both have."""
    return [values[seed] - reference[seed] for seed in sorted(values) if seed in reference]


def _values(values: Mapping[str, Mapping[int, float]], key: str) -> list[float]:
    return [value for _, value in sorted(values.get(key, {}).items())]


def _summary(settings: Settings, figures: Figures) -> dict[str, Any]:
    """Return ``{arm: {figure: {mean, sd, seeds, difference_mean …}}}`` and the settings."""
    reference = figures.get(REFERENCE, {})
    arms: dict[str, Any] = {}
    for arm, values in figures.items():
        arms[arm] = {key: _moments(list(by_seed.values()), "") for key, by_seed in values.items()}
        for key in reference if arm != REFERENCE else ():
            if not key.startswith("cpu"):
                moments = _moments(paired(values.get(key, {}), reference[key]), "difference_")
                arms[arm] |= {key: arms[arm][key] | moments} if key in arms[arm] else {}
    return {"settings": settings.to_json(), "arms": arms}


def _moments(values: Sequence[float], name: str) -> dict[str, float]:
    if not values:
        return {}
    deviation = {f"{name}sd": round(float(np.std(values, ddof=1)), 5)} if len(values) > 1 else {}
    return {f"{name}mean": round(float(np.mean(values)), 5), **deviation, f"{name}seeds": len(values)}


def _by_settings(out: Path) -> dict[Settings, list[tuple[Path, dict[str, Any]]]]:
    """Return the results of each set of settings, oldest first: of older vectors of one arm the newest count."""
    found: dict[Settings, list[tuple[Path, dict[str, Any]]]] = {}
    for path in sorted(out.glob("*-*-*.json"), key=lambda path: path.stat().st_mtime):
        result = json.loads(path.read_text())
        found.setdefault(Settings.from_json(result["settings"]), []).append((path, result))
    return found


def _figures(results: Sequence[tuple[Path, dict[str, Any]]], known: NDArray[np.bool_] | None) -> Figures:
    newest = {result["arm"]: result["settings"]["vectors"] for _, result in results}
    figures: Figures = {arm: {} for arm in sorted(newest, key=_place)}
    for path, result in results:
        if result["settings"]["vectors"] != newest[result["arm"]]:
            continue
        own = {**result["figures"], **_split(path.with_suffix(".npz"), known), **_means(result)}
        for key, value in own.items():
            figures[result["arm"]].setdefault(key, {})[result["seed"]] = value
    return figures


def _place(arm: str) -> tuple[int, str]:
    return next((place for place, part in enumerate(ORDER) if arm.endswith(part)), len(ORDER)), arm


def _means(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the probes' means over the data sets."""
    figures, targets = result["figures"], result["settings"]["targets"]
    names = dict.fromkeys(key.partition(".")[2] for key in figures if "." in key)
    return {name: float(np.mean([figures[f"{target}.{name}"] for target in targets])) for name in names}


def _split(by_gene: Path, known: NDArray[np.bool_] | None) -> dict[str, float]:
    """Return the masked-LM loss of known genes and of the others."""
    if known is None or not by_gene.is_file():
        return {}
    with np.load(by_gene, allow_pickle=False) as arrays:
        nats, asked = arrays["nats"].astype(np.float64), arrays["asked"]
    parts = {"masked_known": known, "masked_other": ~known}
    return {name: float(nats[genes].sum() / asked[genes].sum()) for name, genes in parts.items() if asked[genes].any()}


def _known(out: Path, files: Mapping[str, Path]) -> NDArray[np.bool_] | None:
    """Return which genes of the human vocabulary any of the vectors knows."""
    paths = list(files.values())
    if not paths and (out / VECTORS).is_file():
        paths = [Path(path) for path in json.loads((out / VECTORS).read_text()).values()]
    masks = [GeneVectors.load(path).align(Vocabulary.human()).known for path in paths if path.is_file()]
    return np.any(masks, axis=0) if masks else None
