"use strict";
// Ties the parts together: what is shown, and what the reader does.

const state = { feature: null, sure: null, cells: [], lasso: false, turn: 0 };
const say = (text) => (byId("status").textContent = text);

async function show(feature) {
  const turn = (state.turn += 1);
  state.feature = feature ?? null;
  if (feature) byId("color").value = feature.id;
  while (map.busy) await map.busy;
  if (turn !== state.turn) return;
  map.busy = map.draw(state.feature, state.sure).finally(() => (map.busy = null));
  const limits = await map.busy;
  if (turn !== state.turn) return;
  drawLegend(state.feature, limits, feature ? await feature.levels() : null, selectLabel);
  if (feature?.kind === "label" && byId("count-by").value !== feature.id) {
    byId("count-by").value = feature.id;
    await count();
  }
  document.documentElement.dataset.shown = feature?.id ?? "";
  say(feature ? `Coloured by ${feature.name}` : "");
}

function step(by) {
  if (!features.length) return;
  const place = features.indexOf(state.feature);
  show(features[(place + by + features.length) % features.length]);
}

function chooseGene() {
  const text = byId("gene").value, gene = findGene(text);
  const missing = text.trim() && !gene;
  byId("gene-note").textContent = missing ? `${text.trim()} is none of the ${genes.length} genes of this page. Write the page with --genes to have it.` : "";
  if (gene) show(gene);
}

// ---- Selection

function selectLabel(levels, code) {
  const cells = [];
  for (let i = 0; i < levels.length; i += 1) if (levels[i] === code) cells.push(i);
  map.plot.select(cells);
}

async function count() {
  const feature = features.find((one) => one.id === byId("count-by").value);
  if (state.cells.length && feature) drawCounts(feature, state.cells, await feature.levels());
}

async function selected(cells) {
  state.cells = [...cells].sort((a, b) => a - b);
  const some = state.cells.length > 0, rest = page.cells - state.cells.length;
  byId("selection").hidden = !some;
  byId("selection-note").hidden = some;
  byId("top").replaceChildren();
  if (!some) return say("Nothing is selected");
  byId("selected").textContent = `${formatCount(state.cells.length)} of ${formatCount(page.cells)} cells (${formatShare(state.cells.length / page.cells)})`;
  say(byId("selected").textContent);
  await count();
  await test(rest);
  document.documentElement.dataset.selected = String(state.cells.length);
}

async function test(rest) {
  const note = byId("test-note"), cells = state.cells;
  if (!genes.length) return void (note.textContent = "This page holds no genes.");
  if (!rest) return void (note.textContent = "All cells are selected, so there is no rest.");
  const inside = new Uint8Array(page.cells);
  for (const cell of cells) inside[cell] = 1;
  const rows = await compareGenes(inside, cells.length);
  if (cells !== state.cells) return;
  note.textContent = `Wilcoxon rank-sum test over the ${genes.length} genes of this page only, in ln(1 + counts per 10,000) and 256 steps; p adjusted by Benjamini–Hochberg. A selection drawn by eye makes p small: read it as an order. AUC: the chance that a selected cell is above one of the rest.`;
  drawTop(rows, show);
}

function nothingSelected() {
  document.documentElement.dataset.selected = "0";
  return selected([]);
}

async function download() {
  const blob = new Blob([await csvOf(state.cells)], { type: "text/csv" });
  const link = element("a", { href: URL.createObjectURL(blob), download: "barcodes.csv" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

// ---- Modes and keys

function lasso(on) {
  state.lasso = on;
  byId("lasso").setAttribute("aria-pressed", String(on));
  byId("stage").classList.toggle("lasso", on);
  map.plot.set({ mouseMode: on ? "lasso" : "panZoom" });
  if (on) say("Draw around the cells");
}

function theme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  themed();
}

function themed() {
  byId("theme").setAttribute("aria-pressed", String(isDark()));
  show(state.feature);
}

const keys = {
  l: () => lasso(!state.lasso),
  c: () => byId("color").focus(),
  g: () => byId("gene").focus(),
  "/": () => byId("gene").focus(),
  o: () => byId("opacity").focus(),
  d: theme,
  "[": () => step(-1),
  "]": () => step(1),
  "+": () => map.zoom(0.7),
  "=": () => map.zoom(0.7),
  "-": () => map.zoom(1 / 0.7),
  "0": () => map.fit(),
  "?": () => byId("keys").showModal(),
};
const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || byId("keys").open) return;
  if (event.key === "Escape") {
    if (event.target === byId("gene")) byId("gene").blur();
    lasso(false);
    map.plot.deselect();
  } else if (event.target.matches("input, select, textarea")) {
    return;
  } else if (arrows[event.key] && event.target === byId("canvas")) {
    event.preventDefault();
    map.pan(...arrows[event.key]);
  } else if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
}

// ---- Start

function listen() {
  const find = (id) => features.find((one) => one.id === byId(id).value) ?? null;
  byId("color").addEventListener("change", () => show(find("color")));
  byId("opacity").addEventListener("change", () => ((state.sure = find("opacity")), show(state.feature)));
  byId("count-by").addEventListener("change", count);
  byId("gene").addEventListener("change", chooseGene);
  byId("gene").addEventListener("keydown", (event) => event.key === "Enter" && chooseGene());
  const clicks = {
    csv: download, clear: () => map.plot.deselect(), lasso: () => lasso(!state.lasso), theme, fit: () => map.fit(),
    help: () => byId("keys").showModal(), "zoom-in": () => map.zoom(0.7), "zoom-out": () => map.zoom(1 / 0.7),
    "zoom-selected": () => map.plot.zoomToPoints(state.cells, { padding: 0.15, transition: !calm.matches }),
  };
  for (const [id, act] of Object.entries(clicks)) byId(id).addEventListener("click", act);
  document.addEventListener("keydown", pressed);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);
  map.plot.subscribe("select", ({ points }) => selected(points));
  map.plot.subscribe("deselect", nothingSelected);
  map.plot.subscribe("lassoEnd", () => lasso(false));
  map.plot.subscribe("pointover", (cell) => {
    const label = features.find((one) => one.kind === "label" && one.name === page.label);
    showTip(cell, map.plot.getScreenPosition(cell), [label, state.feature, state.sure]);
  });
  map.plot.subscribe("pointout", hideTip);
  map.plot.subscribe("view", hideTip);
}

function fatal(text) {
  byId("empty").textContent = text;
  byId("empty").hidden = false;
  document.documentElement.dataset.ready = "failed";
}

async function start() {
  byId("cells").textContent = page.cells < page.total
    ? `${formatCount(page.cells)} of ${formatCount(page.total)} cells, drawn at random (seed ${page.seed})`
    : `${formatCount(page.cells)} cells`;
  byId("axes").textContent = `${page.method} of ${page.basis}`;
  byId("selection-note").textContent = "Nothing is selected. Draw a lasso (L, or hold Shift and drag), or choose a label of the legend.";
  fillChoices();
  fillAbout();
  if (typeof DecompressionStream === "undefined") return fatal("This browser is too old to unpack the page: it needs one of 2023 or newer.");
  try {
    await map.start(byId("canvas"));
  } catch (error) {
    console.warn(error);
    return fatal("This browser cannot draw the map: WebGL is switched off or missing.");
  }
  listen();
  const named = (name) => features.find((one) => one.name === name) ?? null;
  state.sure = features.find((one) => one.kind === "number" && one.name === page.opacity) ?? null;
  byId("opacity").value = state.sure?.id ?? "";
  byId("count-by").value = (labelled.find((one) => one.name === page.label) ?? labelled[0])?.id ?? "";
  byId("theme").setAttribute("aria-pressed", String(isDark()));
  await show(named(page.color));
  document.documentElement.dataset.ready = "yes";
  document.documentElement.dataset.firstDraw = String(Math.round(performance.now()));
}

start();
