"use strict";
// The data of the page: names as JSON, arrays as base64 of gzip, unpacked when they are first used.

const page = JSON.parse(document.getElementById("data").textContent);

async function unpack(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).arrayBuffer();
}

function once(load) {
  let found = null;
  return () => (found ??= load());
}

const features = [
  ...page.columns.map((column) => ({ ...column, id: `column:${column.name}`, levels: once(async () => new Uint16Array(await unpack(column.data))) })),
  ...page.genes.map((gene) => ({ ...gene, kind: "gene", low: 0, id: `gene:${gene.name}`, levels: once(async () => new Uint8Array(await unpack(gene.data))) })),
];
const genes = features.filter((one) => one.kind === "gene");
const labelled = features.filter((one) => one.kind === "label");
const barcodes = once(async () => JSON.parse(new TextDecoder().decode(await unpack(page.barcodes))));

async function coordinates() {
  const levels = new Uint16Array(await unpack(page.coordinates));
  const widest = Math.max(...page.spans) || 1;
  const [width, height] = page.spans.map((span) => (0.94 * span) / widest);
  const x = new Float32Array(page.cells), y = new Float32Array(page.cells);
  for (let i = 0; i < page.cells; i += 1) {
    x[i] = ((2 * levels[2 * i]) / page.levels - 1) * width;
    y[i] = ((2 * levels[2 * i + 1]) / page.levels - 1) * height;
  }
  return { x, y };
}

const topLevel = (feature) => (feature.kind === "gene" ? 255 : page.levels);
const valueAt = (feature, level) => feature.low + ((feature.high - feature.low) * level) / topLevel(feature);
const isMissing = (feature, level) => feature.kind === "number" && level === page.noValue;

// ---- Writing values

function formatNumber(value) {
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 1e7)) return value.toExponential(2).replace("-", "−");
  const digits = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 3;
  const text = value.toLocaleString("en", { maximumFractionDigits: digits });
  return text.replace("-", "−");
}

const formatCount = (value) => value.toLocaleString("en");
const formatShare = (share) => (share > 0 && share < 0.001 ? "< 0.1 %" : `${(100 * share).toFixed(1)} %`);
const formatP = (p) => (p < 1e-300 ? "< 1e−300" : p < 0.001 ? p.toExponential(1).replace("-", "−") : p.toFixed(3));

function formatLevel(feature, level) {
  if (feature.kind === "label") return feature.names[level];
  return isMissing(feature, level) ? page.missing : formatNumber(valueAt(feature, level));
}

// ---- Making elements: every text of the data goes through textContent

function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const byId = (id) => document.getElementById(id);
