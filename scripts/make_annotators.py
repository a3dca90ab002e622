"""Make the annotators of the package from a folder of cells: ``make annotators DATA=...``.

    python scripts/make_annotators.py --cells DIR/cells --out src/cell_lm/resources/annotators [--only blood]

Each is a CellTypeClassifier on the packaged model ``small``, fitted on all cells of its data sets. Its scores are those
of classifiers that were fitted in the same way without one donor (or one data set), on the cells of that one. No cells
are written, only weights.
"""

from __future__ import annotations

import argparse
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from anndata import AnnData

from cell_lm.evaluation import AnnotationScores, annotation_scores, calibration_error, score_interval
from cell_lm.files import write_json
from cell_lm.model import CellLM
from cell_lm.tasks import CellTypeClassifier, CoverageWarning
from cell_lm.tasks.annotation.saved import in_half_precision
from cell_lm.tasks.ready import ABOUT, About, DataRecord, ScoreRecord

MODEL = "small"
VIEWS = ("genes", "components", "model")
"""Without the adapted encoder, whose reference alone takes three megabytes, and without trees, which took up to two and
gained nothing on any left-out donor or data set (blood .838 with, .842 without)."""
LABEL, DONOR, SET = "cell_type", "donor", "set"

BLOOD = {
    "zheng_facs10": {
        "CD19+ B": "B cell",
        "CD34+": "CD34+ progenitor",
        "CD56+ NK": "NK cell",
        "CD8+ Cytotoxic T": "CD8 T cell",
        "CD8+/CD45RA+ Naive Cytotoxic": "CD8 T cell",
        "CD4+ T Helper2": "CD4 T cell",
        "CD4+/CD45RO+ Memory": "CD4 T cell",
        "CD4+/CD25 T Reg": "CD4 T cell",
        "CD4+/CD45RA+/CD25- Naive T": "CD4 T cell",
        "CD14+ Monocyte": "CD14+ monocyte",
    },
    "pbmc3k": {
        "B": "B cell",
        "NK": "NK cell",
        "CD8 T": "CD8 T cell",
        "Naive CD4 T": "CD4 T cell",
        "Memory CD4 T": "CD4 T cell",
        "CD14+ Mono": "CD14+ monocyte",
        "FCGR3A+ Mono": "FCGR3A+ monocyte",
        "DC": "Dendritic cell",
        "Platelet": "Megakaryocyte",
    },
    "kang_pbmc": {
        "B cells": "B cell",
        "NK cells": "NK cell",
        "CD8 T cells": "CD8 T cell",
        "CD4 T cells": "CD4 T cell",
        "CD14+ Monocytes": "CD14+ monocyte",
        "FCGR3A+ Monocytes": "FCGR3A+ monocyte",
        "Dendritic cells": "Dendritic cell",
        "Megakaryocytes": "Megakaryocyte",
    },
}
"""The labels of each blood data set, and the type that they have in common.

Naive, memory, helper and regulatory T cells are one type each of CD4 and CD8, since not every set tells them apart."""


@dataclass(frozen=True)
class Recipe:
    """How an annotator is made."""

    name: str
    title: str
    tissue: str
    read: Callable[[Path], AnnData]
    groups: str
    """Column that is left out in turn: the donor, or the data set."""
    sources: Mapping[str, tuple[str, str]]
    """Source and licence by data set."""
    limits: tuple[str, ...]
    harmonised: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    most: int | None = None
    """Most cells of a type from each data set to fit on, so that no data set stands for a type alone; None: all."""


def read_set(folder: Path, name: str, labels: Mapping[str, str] | None = None) -> AnnData:
    """Return the labelled cells of a data set, with the columns cell_type, donor and set."""
    adata = anndata.read_h5ad(folder / f"{name}.h5ad")
    types = adata.obs[LABEL].astype(str) if LABEL in adata.obs else pd.Series("", index=adata.obs_names)
    table = folder / f"{name}_labels.csv"
    donors = adata.obs[DONOR].astype(str)
    if table.exists():
        rows = pd.read_csv(table, index_col="obs_name").reindex(adata.obs_names)
        types, donors = rows[LABEL].fillna(""), f"{name} " + rows[DONOR].fillna(-1).astype(int).astype(str)
    types = types if labels is None else types.map(dict(labels)).fillna("")
    obs = pd.DataFrame({LABEL: types.to_numpy(object), DONOR: np.asarray(donors, object), SET: name})
    obs.index = adata.obs_names.astype(str)
    found = AnnData(adata.X, obs=obs, var=pd.DataFrame(index=adata.var_names.astype(str)))
    found.var_names_make_unique()
    return found[(found.obs[LABEL] != "").to_numpy()].copy()


def read_blood(folder: Path) -> AnnData:
    """Return the three blood sets with their types in common; a gene that a set lacks is 0 in its cells."""
    sets = [read_set(folder, name, labels) for name, labels in BLOOD.items()]
    return anndata.concat(sets, join="outer", fill_value=0, index_unique=" ", keys=list(BLOOD))


RECIPES = (
    Recipe(
        "blood",
        "Cell types of human blood",
        "peripheral blood",
        read_blood,
        SET,
        {
            "zheng_facs10": (
                "bead-sorted PBMC of Zheng et al. 2017 (doi:10.1038/ncomms14049), 10x Genomics",
                "CC BY 4.0",
            ),
            "pbmc3k": ("3k PBMCs from a healthy donor, 10x Genomics", "CC BY 4.0"),
            "kang_pbmc": (
                "control PBMC of Kang et al. 2018 (doi:10.1038/nbt.4042), GSE96583; labels as in the muscat package",
                "GEO, public",
            ),
        },
        (
            "Naive, memory, helper and regulatory T cells are not told apart: the sets do not share such labels.",
            "Plasma cells, basophils, neutrophils, erythrocytes and plasmacytoid dendritic cells are not among its "
            "types and are mostly called unknown, or get another label; cells of other tissues, too.",
            "CD34+ progenitors come from one bead-sorted sample only, so their score on unseen donors is unknown, and "
            "cells of newer chemistries are taken for them. Cells of newer chemistries look unlike the reference: of "
            "the 246 monocytes of a 10x v3 set (pbmc_scminer638) 185 are called unknown; without unknown cells "
            "(--unknown-rate 0) 174 are called monocytes.",
        ),
        BLOOD,
        100,
    ),
    Recipe(
        "pancreas",
        "Cell types of the human pancreas",
        "pancreas",
        lambda folder: read_set(folder, "baron_human"),
        DONOR,
        {"baron_human": ("Baron et al. 2016 (doi:10.1016/j.cels.2016.08.011), GSE84133, donors 1 to 3", "GEO, public")},
        (
            "Three donors, one protocol (inDrop). Other protocols are not tested.",
            "Epsilon, mast, Schwann and T cells had 3 to 13 cells: their labels are weak.",
            "The packaged encoder never saw pancreas. A classifier of your own, fitted on labelled pancreas cells, "
            "adapts it; a ready annotator cannot.",
        ),
    ),
    Recipe(
        "ovarian-cancer",
        "Main cell types of ovarian cancer",
        "ovarian tumour",
        lambda folder: read_set(folder, "qian2020_ovarian"),
        DONOR,
        {
            "qian2020_ovarian": (
                "Qian et al. 2020 (doi:10.1038/s41422-020-0355-0), three patients",
                "public; MIT (swiftcnv)",
            )
        },
        (
            "Three patients, 12,000 genes, six coarse types: no subtypes, and no plasma, mast or dendritic cells.",
            "An epithelial cell of a tumour is called Epithelial whether it is malignant or not.",
        ),
    ),
)

CARD = """# {title}

`cell-lm annotate predict my.h5ad --model {name}` or `cell_lm.tl.annotate(adata, "{name}")`. Raw counts, human genes.

**Types** ({types}): {listed}.

**Data.**

{data}

{harmonised}**Recipe.** {recipe}

**Scores.** {tested}

| left out | cells | types | macro-F1 [95 %] | accuracy | calibration error | confused most |
|---|---|---|---|---|---|---|
{scores}

The interval is over cells of the same set; that over new donors is wider.

**Limits.**

{limits}

No cells are in this folder, only weights. Made by `scripts/make_annotators.py`.
"""


def fit(cells: AnnData, model: CellLM, groups: str, most: int | None) -> CellTypeClassifier:
    """Fit on cells, at most so many of a type from each data set; groups are left out to tune it."""
    if most is not None:
        rng, kinds = np.random.default_rng(0), cells.obs[SET].astype(str) + " " + cells.obs[LABEL].astype(str)
        rows = [rng.permutation(np.flatnonzero(kinds == kind))[:most] for kind in sorted(set(kinds))]
        cells = cells[np.sort(np.concatenate(rows))].copy()
    several = cells.obs[groups].nunique() > 1
    classifier = CellTypeClassifier(model, views=VIEWS)
    classifier.fit(cells, LABEL, groups=groups if several else None, min_cells=1)
    classifier.pool_ = in_half_precision(classifier.pool_)
    return classifier


def score(cells: AnnData, model: CellLM, recipe: Recipe, name: str) -> ScoreRecord:
    """Fit without a donor or data set, and score its cells of types that the others have."""
    mine = (cells.obs[recipe.groups] == name).to_numpy()
    rest = measured(cells[~mine])
    known = set(rest.obs[LABEL])
    test = measured(cells[mine & cells.obs[LABEL].isin(known).to_numpy()])
    classifier = fit(rest, model, recipe.groups, recipe.most)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CoverageWarning)
        proba = classifier.predict_proba(test)
    truth, predicted = test.obs[LABEL].to_numpy(str), proba.columns.to_numpy(str)[proba.to_numpy().argmax(axis=1)]
    scores, interval = annotation_scores(truth, predicted), score_interval(truth, predicted)
    ece = calibration_error(truth, proba.to_numpy(), list(proba.columns))
    print(f"  without {name}: macro-F1 {interval}, accuracy {scores.accuracy:.3f}, ECE {ece:.3f}", flush=True)
    return ScoreRecord(
        test=name,
        cells=len(truth),
        types=len(set(truth)),
        macro_f1=round(interval.mean, 4),
        low=round(interval.low, 4),
        high=round(interval.high, 4),
        accuracy=round(scores.accuracy, 4),
        ece=round(ece, 4),
        confused=most_confused(scores),
    )


def most_confused(scores: AnnotationScores) -> str:
    """Return the types with the most cells off the diagonal, as ``CD8 T cell taken for CD4 T cell (21 % of 271)``."""
    off = scores.confusion * (1 - np.eye(len(scores.classes), dtype=np.int64))
    true, guess = np.unravel_index(int(off.argmax()), off.shape)
    cells = int(scores.confusion[true].sum())
    return f"{scores.classes[true]} taken for {scores.classes[guess]} ({off[true, guess] / cells:.0%} of {cells:,})"


def measured(cells: AnnData) -> AnnData:
    """Return cells with the genes that any of them expresses, as a file of theirs would have them."""
    return cells[:, np.asarray((cells.X != 0).sum(axis=0)).ravel() > 0].copy()


def make(recipe: Recipe, folder: Path, out: Path, model: CellLM) -> About:
    """Fit, score and write one annotator."""
    print(recipe.name, flush=True)
    cells = recipe.read(folder)
    scores = [score(cells, model, recipe, str(name)) for name in sorted(set(cells.obs[recipe.groups]))]
    classifier = fit(cells, model, recipe.groups, recipe.most)
    unit = "data set" if recipe.groups == SET else "donor"
    fitted = classifier.reference_.cells
    capped = f", at most {recipe.most} of a type from each data set" if recipe.most else ""
    about = About(
        title=recipe.title,
        tissue=recipe.tissue,
        data=tuple(
            DataRecord(
                name=name,
                cells=int((cells.obs[SET] == name).sum()),
                donors=int(cells.obs.loc[cells.obs[SET] == name, DONOR].nunique()),
                source=source,
                licence=licence,
            )
            for name, (source, licence) in recipe.sources.items()
        ),
        harmonised={name: dict(labels) for name, labels in recipe.harmonised.items()},
        recipe=f"CellTypeClassifier on the packaged model `{MODEL}` (views genes, components and model), fitted "
        f"on {fitted:,} labelled cells{capped}; "
        f"whole {unit}s were left out to tune and calibrate it.",
        tested=f"Every {unit} left out in turn: a classifier fitted in the same way on the others was scored on its "
        "cells, those of types that the others have.",
        scores=tuple(scores),
        limits=recipe.limits,
    )
    place = out / recipe.name
    if place.exists():
        shutil.rmtree(place)
    classifier.reference_ = classifier.reference_.__class__(**vars(classifier.reference_) | {"name": recipe.name})
    classifier.save(place, packaged_model=MODEL)
    write_json(place / ABOUT, about.model_dump(mode="json"))
    (place / "README.md").write_text(card(recipe, about, classifier), encoding="utf-8")
    size = sum(path.stat().st_size for path in place.iterdir())
    print(f"  {place}: {size / 1e3:.0f} kB, macro-F1 {about.macro_f1:.3f}", flush=True)
    return about


def card(recipe: Recipe, about: About, classifier: CellTypeClassifier) -> str:
    """Return the card of an annotator."""
    renamed = [
        f"- {name}: " + ", ".join(f"{old} → {new}" for old, new in labels.items())
        for name, labels in about.harmonised.items()
    ]
    data = [
        f"- {one.name}: {one.cells:,} cells, {one.donors} donor{'s' * (one.donors > 1)}; {one.source} ({one.licence})"
        for one in about.data
    ]
    rows = [
        f"| {one.test} | {one.cells:,} | {one.types} | {one.macro_f1:.3f} [{one.low:.3f}, {one.high:.3f}] | "
        f"{one.accuracy:.3f} | {one.ece:.3f} | {one.confused} |"
        for one in about.scores
    ]
    return CARD.format(
        title=about.title,
        name=recipe.name,
        types=len(classifier.classes_),
        listed=", ".join(f"{name} ({size:,})" for name, size in classifier.cells_per_class_.items()),
        data="\n".join(data),
        harmonised="**Labels in common.**\n\n" + "\n".join(renamed) + "\n\n" if renamed else "",
        recipe=about.recipe,
        tested=about.tested,
        scores="\n".join(rows),
        limits="\n".join(f"- {limit}" for limit in about.limits),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=Path, required=True, help="folder of h5ad files")
    parser.add_argument("--out", type=Path, required=True, help="folder of the annotators")
    parser.add_argument("--only", action="append", help="make this one only; may be repeated")
    options = parser.parse_args()
    model = CellLM.from_pretrained(MODEL)
    for recipe in RECIPES:
        if not options.only or recipe.name in options.only:
            make(recipe, options.cells, options.out, model)


if __name__ == "__main__":
    main()
