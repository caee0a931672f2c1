// The results: cards, their ghosts while loading, and the message when there are none.

import { thumbnail, titleOf } from "./api.js";
import { $, show } from "./dom.js";

const GHOSTS = 12;
const CARD_PIXELS = 480;

let shown = [];

export const hits = () => shown;

export function clear() {
  shown = [];
  $("gallery").replaceChildren();
  hideMessage();
  $("more").hidden = true;
  $("summary").textContent = "";
}

export function showLoading() {
  clear();
  $("gallery").append(...Array.from({ length: GHOSTS }, ghost));
  busy(true);
}

export function showHits(answer, { more, filtered, onOpen }) {
  if (!more) clear();
  const first = shown.length;
  shown = [...shown, ...answer.hits];
  $("gallery").append(...answer.hits.map((hit, i) => card(hit, first + i, onOpen)));
  $("more").hidden = !answer.more;
  $("summary").textContent = summary(answer);
  if (!shown.length) showNothing(filtered);
  busy(false);
  if (more) $("gallery").children[first]?.querySelector("button").focus();
}

export function showProblem(problem) {
  clear();
  showMessage(problem.title, problem.detail, problem.remedy, true);
  busy(false);
}

function summary(answer) {
  if (!shown.length) return "";
  const count = answer.more ? `The best ${shown.length}` : `${shown.length} ${shown.length === 1 ? "picture" : "pictures"}`;
  return `${count} · ${Math.max(1, Math.round(answer.took_ms))} ms`;
}

// A search without filters finds the nearest pictures, however far they are: none means that there are none.
function showNothing(filtered) {
  if (filtered) showMessage("Nothing found", "No picture in the index fits.", "Remove a filter to find more.");
  else showMessage("No pictures yet", "The index holds none to find.", "They appear here as soon as they are indexed.");
}

function showMessage(title, detail, remedy, failed = false) {
  $("message").classList.toggle("failed", failed);
  $("message-title").textContent = title;
  $("message-detail").textContent = detail ?? "";
  $("message-remedy").textContent = remedy ?? "";
  $("retry").hidden = !failed;
  $("message").hidden = false;
}

function hideMessage() {
  $("message").hidden = true;
}

function busy(yes) {
  $("results").setAttribute("aria-busy", String(yes));
}

function card(hit, index, onOpen) {
  const item = blank();
  const title = titleOf(hit);
  item.querySelector(".title").textContent = title;
  item.querySelector(".category").textContent = hit.payload.category ?? "";
  item.querySelector(".score").textContent = hit.score.toFixed(3);
  item.querySelector("button").setAttribute("aria-label", `${title}, score ${hit.score.toFixed(3)}`);
  item.querySelector("button").addEventListener("click", () => onOpen(index));
  show(item.querySelector("img"), thumbnail(hit, CARD_PIXELS));
  return item;
}

function ghost() {
  const item = blank();
  item.className = "ghost";
  item.querySelector("button").disabled = true;
  item.setAttribute("aria-hidden", "true");
  return item;
}

const blank = () => $("card-template").content.firstElementChild.cloneNode(true);
