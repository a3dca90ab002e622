"use strict";
// The map: points, colours, opacity and camera of regl-scatterplot.

const VIRIDIS = ["#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"];
const STEPS = 256;
const calm = matchMedia("(prefers-reduced-motion: reduce)");

const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const isDark = () => document.documentElement.dataset.theme === "dark" ||
  (document.documentElement.dataset.theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);

function mix(first, second, share) {
  const part = (text, place) => parseInt(text.slice(1 + 2 * place, 3 + 2 * place), 16);
  const hex = [0, 1, 2].map((i) => Math.round(part(first, i) + (part(second, i) - part(first, i)) * share));
  return `#${hex.map((value) => value.toString(16).padStart(2, "0")).join("")}`;
}

// 256 colours from least to most; no expression of a gene is the grey of the page, so that it recedes.
function ramp(feature) {
  const colours = Array.from({ length: STEPS }, (_, i) => {
    const share = i / (STEPS - 1);
    const place = (isDark() ? 0.12 + 0.88 * share : 0.95 * (1 - share)) * (VIRIDIS.length - 1);
    const low = Math.min(Math.floor(place), VIRIDIS.length - 2);
    return mix(VIRIDIS[low], VIRIDIS[low + 1], place - low);
  });
  if (feature.kind === "gene") colours[0] = absent();
  return colours;
}

const absent = () => (isDark() ? "#37434f" : "#d3dae1");

// Numbers are coloured between their 1st and 99th percentile, so that single outliers do not flatten the rest.
function range(feature, levels) {
  if (feature.kind === "gene") return [0, 255];
  const there = levels.filter((level) => level !== page.noValue).sort();
  const at = (share) => there[Math.round(share * (there.length - 1))];
  const [low, high] = [at(0.01), at(0.99)];
  return low < high ? [low, high] : [there[0], Math.max(there[there.length - 1], there[0] + 1)];
}

// Returns for each cell the place of its colour, the colours, and the range they stand for.
async function colouring(feature) {
  if (!feature) return { places: new Float32Array(page.cells), colours: [css("--accent")], limits: null };
  const levels = await feature.levels();
  const places = new Float32Array(page.cells);
  if (feature.kind === "label") {
    for (let i = 0; i < places.length; i += 1) places[i] = levels[i];
    return { places, colours: feature.colours, limits: null };
  }
  const limits = (feature.limits ??= range(feature, levels));
  const width = limits[1] - limits[0];
  for (let i = 0; i < places.length; i += 1) {
    const share = Math.min(1, Math.max(0, (levels[i] - limits[0]) / width));
    places[i] = isMissing(feature, levels[i]) ? STEPS : Math.round(share * (STEPS - 1));
  }
  return { places, colours: [...ramp(feature), absent()], limits };
}

// The order of drawing: highest values last, so that few expressing cells are not hidden.
function orderOf(feature, places) {
  if (!feature || feature.kind === "label") return null;
  const bins = new Uint32Array(STEPS + 2);
  const rank = (i) => (places[i] === STEPS ? 0 : places[i] + 1);
  for (let i = 0; i < places.length; i += 1) bins[rank(i)] += 1;
  let start = 0;
  for (let bin = 0; bin < bins.length; bin += 1) {
    const number = bins[bin];
    bins[bin] = start;
    start += number;
  }
  const order = new Array(places.length);
  for (let i = 0; i < places.length; i += 1) order[bins[rank(i)]++] = i;
  return order;
}

// The camera's distance at which the whole map is seen: the height of the stage is the unit.
function wholeDistance() {
  const { width, height } = byId("stage").getBoundingClientRect();
  return Math.max(1, height / width);
}

const pointSize = () => Math.max(1.5, Math.min(6, 420 / Math.sqrt(page.cells)));
const plainOpacity = () => Math.max(0.55, Math.min(0.9, 1.15 - 0.12 * Math.log10(page.cells)));

const map = {
  plot: null,
  index: undefined,
  points: null,
  busy: null,

  async start(canvas) {
    this.points = await coordinates();
    this.plot = createScatterplot({
      canvas, width: "auto", height: "auto", cameraDistance: wholeDistance(), spatialIndexUseWorker: false, deselectOnEscape: false,
      pointSize: pointSize(), pointSizeSelected: 0, pointOutlineWidth: 0, opacityInactiveScale: 0.3, opacityInactiveMax: 0.5,
      lassoMinDelay: 8, lassoMinDist: 3, backgroundColor: css("--paper"), lassoColor: css("--accent"),
    });
  },

  async draw(feature, sure) {
    const { places, colours, limits } = await colouring(feature);
    const opacity = await opacities(sure);
    this.plot.set({
      backgroundColor: css("--paper"), lassoColor: css("--accent"), colorBy: "valueA", pointColor: colours,
      pointColorActive: colours, pointColorHover: colours, opacityBy: opacity ? "valueB" : null,
      opacity: opacity ? Array.from({ length: 64 }, (_, i) => 0.06 + (0.94 * i) / 63) : plainOpacity(),
      pointOrder: orderOf(feature, places),
    });
    const points = { x: this.points.x, y: this.points.y, valueA: places, valueB: opacity ?? new Float32Array(page.cells) };
    const how = { zDataType: "categorical", wDataType: "continuous", spatialIndex: this.index };
    const selected = this.plot.get("selectedPoints");
    if (selected.length) how.select = selected;
    await this.plot.draw(points, how);
    this.index ??= this.plot.get("spatialIndex");
    return limits;
  },

  // The camera moves with a short transition, unless the reader prefers none.
  move(target, distance) {
    return this.plot.zoomToLocation(target, distance, { transition: !calm.matches, transitionDuration: 160 });
  },
  zoom(factor) {
    const camera = this.plot.get("camera");
    return this.move([...camera.target], Math.min(6, Math.max(0.002, camera.distance[0] * factor)));
  },
  pan(right, up) {
    const camera = this.plot.get("camera"), step = 0.25 * camera.distance[0];
    return this.move([camera.target[0] + right * step, camera.target[1] + up * step], camera.distance[0]);
  },
  fit() {
    return this.move([0, 0], wholeDistance());
  },
};

async function opacities(sure) {
  if (!sure) return null;
  const levels = await sure.levels();
  const values = new Float32Array(page.cells);
  for (let i = 0; i < values.length; i += 1) {
    values[i] = isMissing(sure, levels[i]) ? 0 : Math.min(0.9999, Math.max(0, valueAt(sure, levels[i])));
  }
  return values;
}
