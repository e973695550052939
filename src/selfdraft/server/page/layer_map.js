/** The map of layers: what the draft skips now, and how the search for it goes. */

import { byId, make, setText } from "./dom.js";
import { percent } from "./words.js";

const KINDS = ["attention", "mlp"];
const LABELS = { attention: "attention", mlp: "MLP" };
const SIGNS = { kept: "kept", skipped: "skipped", fixed: "never skipped" };
const SEARCH_STATES = {
  searching: "searching for a better draft",
  resting: "resting: it has found what it can",
  off: "off",
};

export class LayerMap {
  #box = byId("layer-map");
  #layers = []; // of each layer {attention: cell, mlp: cell}

  /** Show an answer of GET /v1/draft. What differs from the last one flashes. */
  show(state) {
    const isNew = this.#layers.length !== state.num_layers;
    if (isNew) this.#build(state.num_layers);
    this.#layers.forEach((cells, layer) => {
      for (const kind of KINDS) mark(cells[kind], signOf(state, kind, layer), layer, kind, isNew);
    });
    this.#box.classList.toggle("idle", state.plan === null);
    const label = inWords(state);
    if (this.#box.getAttribute("aria-label") !== label) this.#box.setAttribute("aria-label", label);
    setText(byId("plan-summary"), summary(state));
    showSearch(state);
  }

  #build(numLayers) {
    this.#layers = Array.from({ length: numLayers }, () => ({
      attention: make("span", { class: "cell", "data-kind": "attention" }),
      mlp: make("span", { class: "cell", "data-kind": "mlp" }),
    }));
    const columns = this.#layers.map(({ attention, mlp }, layer) =>
      make("span", { class: "layer" }, attention, mlp, make("span", { class: "index" }, String(layer))),
    );
    this.#box.replaceChildren(...columns);
    this.#box.classList.toggle("many", numLayers > 100); // three digits are wider than a cell
  }
}

function signOf(state, kind, layer) {
  if (state.fixed?.[kind]?.includes(layer)) return "fixed";
  return state.plan?.[kind].includes(layer) ? "skipped" : "kept";
}

function mark(cell, sign, layer, kind, isNew) {
  const hasChanged = cell.dataset.sign !== sign;
  cell.classList.toggle("changed", hasChanged && !isNew);
  if (!hasChanged) return;
  cell.dataset.sign = sign;
  cell.classList.remove(...Object.keys(SIGNS));
  cell.classList.add(sign);
  cell.title = `layer ${layer}, ${LABELS[kind]}: ${SIGNS[sign]}`;
}

function summary(state) {
  if (state.plan === null) return withoutPlan(state.draft);
  const skipped = KINDS.reduce((sum, kind) => sum + state.plan[kind].length, 0);
  const fixed = KINDS.reduce((sum, kind) => sum + (state.fixed?.[kind]?.length ?? 0), 0);
  const eligible = 2 * state.num_layers - fixed;
  const share = eligible ? ` (${percent(skipped / eligible)})` : "";
  return `${skipped} of ${eligible} sublayers skipped${share}.`;
}

function withoutPlan(draft) {
  if (draft === "off") return "This server drafts only when it is asked to.";
  if (draft === "suffix" || draft === "recycling") return `Nothing: the draft is ${draft}, without the model.`;
  return "The model does not draft now: no draft by it is known to pay.";
}

/** The map as a sentence, for those who do not see it. */
function inWords(state) {
  const parts = [`Map of ${state.num_layers} layers.`];
  for (const kind of KINDS) {
    const name = kind === "mlp" ? "MLP" : "Attention";
    parts.push(`${name} skipped in ${layersInWords(state.plan?.[kind])}.`);
    parts.push(`${name} never skipped in ${layersInWords(state.fixed?.[kind])}.`);
  }
  return parts.join(" ");
}

function layersInWords(layers) {
  if (!layers?.length) return "no layer";
  return `${layers.length === 1 ? "layer" : "layers"} ${layers.join(", ")}`;
}

function showSearch({ search, plan, num_running: running, num_waiting: waiting }) {
  const starts = search.num_starts > 1 ? `, ${search.num_starts} starts` : "";
  setText(byId("search-state"), SEARCH_STATES[search.state] ?? search.state);
  setText(byId("proposals"), `${search.num_proposals ?? 0}${starts}`);
  setText(byId("weight-bits"), bitsInWords(plan));
  setText(byId("requests"), `${running} running, ${waiting} waiting`);
}

function bitsInWords(plan) {
  if (plan === null) return "\u2013";
  return plan.weight_bits === 16 ? "the model's own" : `${plan.weight_bits} bits, a copy`;
}
