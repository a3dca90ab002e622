"""Transfer of a drug's signature from bulk lines to cells, and how often the tests of trust are right.

*Known cells.* A375 and HNSC120, whose labels are known, and the five lines of GSE118767, whose cells have the response
of their line in GDSC: there, over lines, the correlation of the mean score with sensitivity. A line is left out of the
bulk where its cells are scored.

*All drugs, on lines alone.* No cell is needed to see how the first two tests do: the signature of every drug is learned
without a tissue and scores the lines of that tissue. It fails where it ranks the most sensitive third below the most
resistant third (AUROC below .5). The tests see the other tissues only.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score, roc_auc_score

from cell_lm.data import CellData, read_cells
from cell_lm.data.response import ResponseTable, read_response
from cell_lm.data.view import CellView
from cell_lm.files import JSON
from cell_lm.tasks.sensitivity import TransferWarning, bulk_signature
from cell_lm.tasks.sensitivity.trust import LEAST_UNSEEN, LEAST_WITHIN, signature, z_scores
from cell_lm.tasks.sensitivity.values import gene_values

LINES, RESPONSES = "cellline_expression", "gdsc_response"
KNOWN = {
    ("a375", "PLX-4720"): ("sc_GSE108383_A375", "response", "skin"),
    ("hnsc120", "Afatinib"): ("sc_SCAD_HNSC120", "response_Afatinib", "aero_digestive_tract"),
    ("hnsc120", "Cetuximab"): ("sc_SCAD_HNSC120", "response_Cetuximab", "aero_digestive_tract"),
    ("hnsc120", "Sorafenib"): ("sc_SCAD_HNSC120", "response_Sorafenib", "aero_digestive_tract"),
    ("hnsc120", "NVP-TAE684"): ("sc_SCAD_HNSC120", "response_NVP-TAE684", "aero_digestive_tract"),
}
FIVE_LINES, FIVE_DRUGS = "sc_GSE118767_celseq2", ("Gefitinib", "Afatinib", "Trametinib", "Docetaxel", "Cisplatin")
OF_FIVE = ("A549", "HCC827", "NCIH1975", "NCIH2228", "NCIH838")
FEWEST_LINES, FOLDS = 12, 5


def needs() -> list[str]:
    """Return the files that are read."""
    return [f"drug/{LINES}.h5ad", f"drug/{RESPONSES}.parquet", f"drug/{FIVE_LINES}.h5ad"]


def transfer(data: Path) -> dict[str, JSON]:
    """Print and return the transfer to cells of known response, and the tests of trust."""
    path = data / "drug" / f"{RESPONSES}.parquet"
    responses = read_response(path, line="cell_key", screen_column="dataset", screen="all")
    lines = read_cells(data / "drug" / f"{LINES}.h5ad", scale="log2")
    found: dict[str, JSON] = {}
    print("\ntransfer from bulk lines (GDSC, mean of both screens)")
    for (name, drug), (file, label, tissue) in KNOWN.items():
        cells = read_cells(data / "drug" / f"{file}.h5ad", scale="scaled")
        found[f"transfer.{drug}"] = {"set": name, **_known(lines, responses, cells, drug, label, tissue)}
        print(f"  {name:8s} {drug:12s} {found[f'transfer.{drug}']}", flush=True)
    five = read_cells(data / "drug" / f"{FIVE_LINES}.h5ad")
    for drug in FIVE_DRUGS:
        found[f"transfer.lines.{drug}"] = _five(lines, responses, five, drug)
        print(f"  5 lines  {drug:12s} {found[f'transfer.lines.{drug}']}", flush=True)
    return found | {"trust": _trust(lines, responses)}


def _known(
    lines: CellData, responses: ResponseTable, cells: CellData, drug: str, label: str, tissue: str
) -> dict[str, JSON]:
    truth = (cells.obs[label] == "sensitive").to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)
        of_drug = bulk_signature(lines, responses, drug, tissue=tissue)
        blind = bulk_signature(lines, responses, drug).transfer(CellView.of(cells))
        result = of_drug.transfer(CellView.of(cells))
    called = (result.cells["call"] == "sensitive").to_numpy()
    return {
        "auroc": round(float(roc_auc_score(truth, result.cells["score"])), 4),
        "f1": round(float(f1_score(truth, called)), 4),
        "trusted": result.trust.trusted,
        "trusted_without_tissue": blind.trust.trusted,
        "reasons": list(result.trust.reasons),
        **{key: round(value, 3) for key, value in result.trust.figures().items()},
        "genes": len(result.genes),
    }


def _five(lines: CellData, responses: ResponseTable, cells: CellData, drug: str) -> dict[str, JSON]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TransferWarning)
        result = bulk_signature(lines, responses, drug, tissue="lung", exclude=OF_FIVE).transfer(CellView.of(cells))
    frame = pd.DataFrame(
        {
            "score": result.cells["score"].to_numpy(),
            "z": cells.obs[f"gdsc_z_{drug.lower()}"].to_numpy(),
            "line": cells.obs["cell_line"].astype(str).to_numpy(),
        }
    )
    means = frame.groupby("line").mean()
    return {
        "r_over_lines": round(float(np.corrcoef(means["score"], -means["z"])[0, 1]), 3),
        "most_sensitive_first": bool(means["score"].idxmax() == means["z"].idxmin()),
        "trusted": result.trust.trusted,
        "reasons": list(result.trust.reasons),
    }


def _trust(lines: CellData, responses: ResponseTable) -> dict[str, JSON]:
    """Return how often signatures fail in a left-out tissue, where the tests pass and where they do not."""
    pairs = trust_pairs(lines, responses)
    fails = pairs["auroc"] < 0.5
    passed = (pairs["unseen"] >= LEAST_UNSEEN) & (pairs["within"] >= LEAST_WITHIN)
    print(f"\ntests of trust: {len(pairs):,} pairs of drug and left-out tissue, on lines alone")
    for name in ("unseen", "within"):
        bins = pd.cut(pairs[name], [-1, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 1])
        table = pairs.assign(fails=fails).groupby(bins, observed=True).agg(n=("auroc", "size"), fails=("fails", "mean"))
        print(f"  {name}: " + ", ".join(f"{row.Index} {row.fails:.1%} of {row.n:,} fail" for row in table.itertuples()))
    told: dict[str, JSON] = {
        "pairs": len(pairs),
        "fail": round(float(fails.mean()), 4),
        "flagged": round(float((~passed).mean()), 4),
        "fail_if_flagged": round(float(fails[~passed].mean()), 4),
        "fail_if_passed": round(float(fails[passed].mean()), 4),
        "failures_caught": round(float((~passed)[fails].mean()), 4),
        "false_alarms": round(float((~passed)[~fails].mean()), 4),
        "auroc_if_flagged": round(float(pairs["auroc"][~passed].mean()), 4),
        "auroc_if_passed": round(float(pairs["auroc"][passed].mean()), 4),
    }
    print(f"  {told}", flush=True)
    return told


def trust_pairs(lines: CellData, responses: ResponseTable, seed: int = 0) -> pd.DataFrame:
    """Return, for each drug and left-out tissue: ``unseen`` and ``within`` of the others, ``auroc`` in the tissue."""
    table = responses.matrix()
    names = [name for name in lines.obs.index if name in table.index]
    rows = lines.obs.index.get_indexer(names)
    x = np.asarray(gene_values(lines, z_scored=False)[rows][:, lines.audit.found].toarray(), np.float64)
    tissues, y, rng = lines.obs["tissue"].astype(str).to_numpy()[rows], table.loc[names], np.random.default_rng(seed)
    found = list[dict[str, object]]()
    for tissue in np.unique(tissues):
        out = tissues == tissue
        fold = rng.permutation(int((~out).sum())) % FOLDS
        z_all, z_out = z_scores(x[~out]), z_scores(x[out])
        parts = [(z_scores(x[~out][fold != k]), z_scores(x[~out][fold == k], x[~out][fold != k])) for k in range(FOLDS)]
        for drug in y.columns:
            values = y[drug].to_numpy()
            known, judged = np.isfinite(values[~out]), np.isfinite(values[out])
            if judged.sum() < FEWEST_LINES or known.sum() < 100:
                continue
            inner, outer = values[~out], values[out][judged]
            score = np.zeros(len(inner))
            for k, (rest, left) in enumerate(parts):
                learned = known[fold != k]
                score[fold == k] = left @ signature(rest[learned], inner[fold != k][learned])
            score_out = (z_out @ signature(z_all[known], inner[known]))[judged]
            found.append(
                {
                    "tissue": tissue,
                    "drug": drug,
                    "unseen": float(np.corrcoef(score[known], -inner[known])[0, 1]),
                    "within": _within(score[known], -inner[known], tissues[~out][known]),
                    "auroc": _thirds(score_out, outer),
                }
            )
    return pd.DataFrame(found)


def _within(a: NDArray[np.float64], b: NDArray[np.float64], groups: NDArray[np.str_]) -> float:
    centred = [values - pd.Series(values).groupby(groups).transform("mean").to_numpy() for values in (a, b)]
    return float(np.corrcoef(*centred)[0, 1])


def _thirds(score: NDArray[np.float64], response: NDArray[np.float64]) -> float:
    low, high = np.quantile(response, [1 / 3, 2 / 3])
    chosen = (response <= low) | (response >= high)
    truth = response[chosen] <= low
    return float(roc_auc_score(truth, score[chosen])) if 0 < truth.sum() < len(truth) else 0.5
