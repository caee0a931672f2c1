// The drawer with everything that is known of one picture.

import { thumbnail, titleOf } from "./api.js";
import { $, button, element, show } from "./dom.js";
import { hits } from "./gallery.js";

const DETAIL_PIXELS = 1024;
const LONGEST_FILTER = 80;

let index = 0;
let onOnly = () => {};

export function prepare({ onSimilar, onFilter }) {
  onOnly = onFilter;
  $("previous").addEventListener("click", () => open(index - 1));
  $("next").addEventListener("click", () => open(index + 1));
  $("similar").addEventListener("click", () => onSimilar(hits()[index]));
  $("detail").addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft" && index > 0) open(index - 1);
    if (event.key === "ArrowRight" && index < hits().length - 1) open(index + 1);
  });
}

export function open(at) {
  index = at;
  const hit = hits()[at];
  const { title, description } = hit.payload;
  $("detail-title").textContent = titleOf(hit);
  $("detail-description").textContent = title && typeof description === "string" ? description : "";
  $("detail-rank").textContent = `${at + 1} of ${hits().length} · score ${hit.score.toFixed(3)}`;
  $("detail-picture").alt = titleOf(hit);
  $("detail-payload").replaceChildren(...Object.entries(hit.payload).map(([name, value]) => column(name, value)));
  $("detail-sync").replaceChildren(...bookkeeping(hit).map(([name, value]) => fact(name, value)));
  $("previous").disabled = at === 0;
  $("next").disabled = at === hits().length - 1;
  show($("detail-picture"), thumbnail(hit, DETAIL_PIXELS));
  if (!$("detail").open) $("detail").showModal();
  $("detail").querySelector(".drawer-body").scrollTop = 0;
}

export const close = () => $("detail").close();

function bookkeeping(hit) {
  const sync = hit.sync;
  if (!sync) return [["id", hit.id], ["version", "written by another program"]];
  return [
    ["id", hit.id],
    ["picture", `${sync.width} × ${sync.height} ${sync.format}, ${size(sync.bytes)}`],
    ["file", sync.ref],
    ["sha-256", sync.sha256],
    ["version", sync.seq],
    ["model", sync.model],
    ["searchable since", new Date(sync.at).toLocaleString()],
  ];
}

function column(name, value) {
  const row = fact(name, value);
  if (filterable(name, value)) {
    const only = button("only", "only these", () => onOnly(name, String(value)));
    only.setAttribute("aria-label", `Only pictures with ${name} ${value}`);
    row.lastElementChild.append(only);
  }
  return row;
}

// What can be asked for by equality. Stores take no quotation mark in a column's name.
function filterable(name, value) {
  const comparable = Number.isInteger(value) || typeof value === "boolean" || (typeof value === "string" && value !== "");
  return comparable && String(value).length <= LONGEST_FILTER && !name.includes('"');
}

function fact(name, value) {
  const text = value === null ? element("span", "null", "null") : element("span", "", shown(value));
  return element("div", "", element("dt", "", name), element("dd", "", text));
}

const shown = (value) => (typeof value === "object" ? JSON.stringify(value, null, 1) : String(value));

function size(bytes) {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1 << 20 ? `${(bytes / 1024).toFixed(0)} KiB` : `${(bytes / (1 << 20)).toFixed(1)} MiB`;
}
