"use strict";
// The controls beside the map: choices, legend, tip and selection.

const MOST_ROWS = 12;

// ---- Choices

function fillChoices() {
  const option = (feature) => element("option", { value: feature.id, textContent: feature.name });
  const group = (label, members) => {
    const made = element("optgroup", { label });
    made.append(...members.map(option));
    return members.length ? [made] : [];
  };
  const numbers = features.filter((one) => one.kind === "number");
  byId("color").append(
    ...group("Labels", labelled), ...group("Numbers", numbers), ...group("Genes", genes),
    ...(features.length ? [] : [element("option", { value: "", textContent: "nothing to colour by" })]),
  );
  byId("opacity").append(element("option", { value: "", textContent: "the same for all" }), ...numbers.filter((one) => one.fraction).map(option));
  byId("count-by").append(...labelled.map(option));
  byId("genes").append(...genes.map((gene) => element("option", { value: gene.name, label: gene.also.join(", ") })));
  byId("gene").disabled = !genes.length;
  if (!genes.length) byId("gene-note").textContent = "This page holds no genes.";
}

function findGene(text) {
  const wanted = text.trim().toLowerCase();
  return genes.find((gene) => gene.name.toLowerCase() === wanted) ?? genes.find((gene) => gene.also.some((name) => name.toLowerCase() === wanted));
}

// ---- Legend

function drawLegend(feature, limits, levels, choose) {
  const box = byId("legend");
  box.replaceChildren();
  if (!feature) return;
  if (feature.kind === "label") drawLabels(box, feature, levels, choose);
  else drawBar(box, feature, limits);
}

function countLabels(feature, levels) {
  const counts = new Uint32Array(feature.names.length);
  for (const level of levels) counts[level] += 1;
  return counts;
}

function drawLabels(box, feature, levels, choose) {
  const counts = countLabels(feature, levels);
  const list = element("ul", { className: "labels" });
  feature.names.forEach((name, code) => {
    if (!counts[code]) return;
    const dot = element("span", { className: "dot" });
    dot.style.background = feature.colours[code];
    const button = element("button", { type: "button", title: "Select these cells" }, [
      dot, element("span", { className: "name", textContent: name }), element("span", { className: "number", textContent: formatCount(counts[code]) }),
    ]);
    button.addEventListener("click", () => choose(levels, code));
    list.append(element("li", {}, [button]));
  });
  box.append(list);
  const grey = feature.colours.filter((colour) => colour === feature.colours[feature.colours.length - 1]).length;
  if (feature.names.length > 20 && grey > 1) {
    box.append(element("p", { className: "faint", textContent: `${formatCount(feature.names.length)} labels: the ${grey} smallest share a grey. Hover to tell them apart.` }));
  }
}

function drawBar(box, feature, limits) {
  const bar = element("div", { className: "bar" });
  bar.style.background = `linear-gradient(to right, ${ramp(feature).filter((_, i) => i % 15 === 0).join(", ")})`;
  const ends = limits.map((level) => formatNumber(valueAt(feature, level)));
  const [low, high] = [limits[0] > 0 ? `≤ ${ends[0]}` : ends[0], limits[1] < topLevel(feature) ? `≥ ${ends[1]}` : ends[1]];
  const scale = feature.kind === "gene" ? "ln(1 + counts per 10,000); cells without a count in grey" : "colours span the 1st to the 99th percentile";
  box.append(bar, element("div", { className: "ends" }, [element("span", { textContent: low }), element("span", { textContent: high })]), element("p", { className: "faint", textContent: scale }));
}

// ---- Tip

async function showTip(cell, place, shown) {
  const names = await barcodes();
  const rows = [];
  for (const feature of new Set(shown.filter(Boolean))) rows.push([feature.name, formatLevel(feature, (await feature.levels())[cell])]);
  const tip = byId("tip");
  tip.replaceChildren(
    element("strong", { textContent: names[cell] }),
    element("dl", {}, rows.flatMap(([name, value]) => [element("dt", { textContent: name }), element("dd", { textContent: value })])),
  );
  tip.hidden = false;
  const room = byId("stage").getBoundingClientRect();
  const left = place[0] + 14 + tip.offsetWidth > room.width ? place[0] - 14 - tip.offsetWidth : place[0] + 14;
  const top = Math.min(place[1] + 10, room.height - tip.offsetHeight - 6);
  tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, top)}px)`;
}

const hideTip = () => (byId("tip").hidden = true);

// ---- Selection

function drawCounts(feature, cells, levels) {
  const box = byId("counts");
  box.replaceChildren();
  if (!feature) return;
  const all = countLabels(feature, levels), own = new Uint32Array(feature.names.length);
  for (const cell of cells) own[levels[cell]] += 1;
  const order = feature.names.map((_, code) => code).filter((code) => own[code]).sort((a, b) => own[b] - own[a]);
  const head = ["label", "cells", "of selection", "of label"];
  const rows = order.map((code) => [feature.names[code], formatCount(own[code]), formatShare(own[code] / cells.length), formatShare(own[code] / all[code])]);
  box.append(table(head, rows, (cell, row) => {
    const dot = element("span", { className: "dot" });
    dot.style.background = feature.colours[order[row]];
    cell.prepend(dot);
  }));
}

function drawTop(rows, chooseGene) {
  const shown = rows.filter((row) => row.auc > 0.5 && row.adjusted < 0.05).slice(0, MOST_ROWS);
  const mean = (row, side) => formatNumber((row[side] * row.gene.high) / 255);
  const cells = shown.map((row) => [row.gene.name, row.auc.toFixed(3), mean(row, "inside"), mean(row, "outside"), formatP(row.adjusted)]);
  byId("top").replaceChildren(shown.length ? table(["gene", "AUC", "mean", "rest", "adj. p"], cells, (cell, row) => {
    const button = element("button", { type: "button", className: "link", textContent: cells[row][0], title: "Colour by this gene" });
    button.addEventListener("click", () => chooseGene(shown[row].gene));
    cell.replaceChildren(button);
  }) : element("p", { className: "faint", textContent: "No gene of this page is clearly higher here than in the rest (adjusted p below 0.05)." }));
}

function table(head, rows, finish) {
  const line = (tag, texts, first) => element("tr", {}, texts.map((text, i) => element(i ? tag : "th", { textContent: text, scope: i || first ? "col" : "row" })));
  const body = rows.map((row, i) => {
    const made = line("td", row, false);
    finish(made.firstChild, i);
    return made;
  });
  return element("table", {}, [element("thead", {}, [line("th", head, true)]), element("tbody", {}, body)]);
}

// A field of a CSV: in quotes; a first character that a spreadsheet would read as a formula is put behind an apostrophe.
function csvField(text) {
  const safe = /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return `"${safe.replaceAll('"', '""')}"`;
}

async function csvOf(cells) {
  const names = await barcodes();
  const columns = await Promise.all(labelled.slice(0, 1).map(async () => {
    const feature = features.find((one) => one.id === byId("count-by").value);
    return { feature, levels: await feature.levels() };
  }));
  const head = ["barcode", ...columns.map(({ feature }) => feature.name)].map(csvField).join(",");
  const lines = cells.map((cell) => [names[cell], ...columns.map(({ feature, levels }) => feature.names[levels[cell]])].map(csvField).join(","));
  return `${[head, ...lines].join("\n")}\n`;
}

// ---- About

function fillAbout() {
  const entries = [
    ["cells", page.cells < page.total
      ? `${formatCount(page.cells)} of ${formatCount(page.total)}, drawn at random (seed ${page.seed}); counts and tests are of these`
      : formatCount(page.cells)],
    ["map", `${page.method} of obsm ${page.basis}; distances and areas on it mean little`],
    ["genes", page.aboutGenes || "none"],
    ["precision", "coordinates and numbers in 65,535 steps of their range, genes in 256"],
    ["not shown", page.notes.join("; ")],
    ["cell-lm", page.version],
  ];
  byId("about").append(...entries.filter(([, text]) => text).flatMap(([name, text]) => [element("dt", { textContent: name }), element("dd", { textContent: text })]));
}
