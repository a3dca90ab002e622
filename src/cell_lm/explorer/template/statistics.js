"use strict";
// Wilcoxon's rank-sum test of a selection against the other cells, on the 256 levels of each gene.

function erfc(x) {
  // Numerical Recipes' Chebyshev fit: a relative error below 1.2e-7 everywhere.
  const z = Math.abs(x), t = 1 / (1 + 0.5 * z);
  const series = [-1.26551223, 1.00002368, 0.37409196, 0.09678418, -0.18628806, 0.27886807, -1.13520398, 1.48851587, -0.82215223, 0.17087277];
  const power = series.reduceRight((sum, term) => sum * t + term, 0);
  const tail = t * Math.exp(-z * z + power);
  return x >= 0 ? tail : 2 - tail;
}

// Returns the AUC (chance that a selected cell is above another one, ties counted half), the two-sided p-value of the
// normal approximation with correction for ties and continuity, and the mean level of each side.
function rankSum(levels, inside, selected) {
  const all = new Float64Array(256), own = new Float64Array(256);
  for (let i = 0; i < levels.length; i += 1) {
    all[levels[i]] += 1;
    if (inside[i]) own[levels[i]] += 1;
  }
  const cells = levels.length, rest = cells - selected;
  let below = 0, ranks = 0, ties = 0, sumAll = 0, sumOwn = 0;
  for (let level = 0; level < 256; level += 1) {
    const number = all[level];
    ranks += own[level] * (below + (number + 1) / 2);
    ties += number * number * number - number;
    sumAll += level * number;
    sumOwn += level * own[level];
    below += number;
  }
  const above = ranks - (selected * (selected + 1)) / 2;
  const spread = Math.sqrt(((selected * rest) / 12) * (cells + 1 - ties / (cells * (cells - 1))));
  const distance = Math.max(0, Math.abs(above - (selected * rest) / 2) - 0.5);
  const p = spread > 0 ? erfc(distance / spread / Math.SQRT2) : 1;
  return { auc: above / (selected * rest), p: Math.min(1, p), inside: sumOwn / selected, outside: (sumAll - sumOwn) / rest };
}

function benjaminiHochberg(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[b] - values[a]);
  const adjusted = new Array(values.length);
  let least = 1;
  order.forEach((i, place) => {
    least = Math.min(least, (values[i] * values.length) / (values.length - place));
    adjusted[i] = least;
  });
  return adjusted;
}

async function compareGenes(inside, selected) {
  const rows = [];
  for (const gene of genes) rows.push({ gene, ...rankSum(await gene.levels(), inside, selected) });
  const adjusted = benjaminiHochberg(rows.map((row) => row.p));
  rows.forEach((row, i) => (row.adjusted = adjusted[i]));
  return rows.sort((a, b) => b.auc - a.auc);
}
