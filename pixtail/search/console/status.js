// The line at the top: how many pictures can be found, whether the index is up to date, what fails, which model encodes.

import { failures, stats } from "./api.js";
import { $, element } from "./dom.js";

const EVERY_MS = 4000;
export const limits = { pictureBytes: Infinity };
const number = new Intl.NumberFormat("en");

export function start() {
  $("failing").addEventListener("click", openFailures);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  tick();
}

async function tick() {
  if (!document.hidden) await refresh();
  setTimeout(tick, EVERY_MS);
}

async function refresh() {
  try {
    showStats(await stats());
  } catch (problem) {
    showSilence(problem);
  }
}

function showStats({ points, model, pipeline, max_picture_bytes }) {
  limits.pictureBytes = max_picture_bytes;
  const lag = pipeline.lag_records;
  const failing = pipeline.dead_letters ?? 0;
  $("stats").dataset.state = lag ? "busy" : "good";
  $("points").textContent = `${number.format(points)} ${points === 1 ? "picture" : "pictures"}`;
  $("lag").textContent = lag === undefined || lag === null ? "" : lag ? `${number.format(lag)} waiting` : "up to date";
  $("failing").textContent = `${number.format(failing)} failing`;
  $("failing").hidden = !failing;
  $("model").textContent = model.name;
  $("model").title = `${model.dimension} dimensions, ${model.fingerprint}`;
}

function showSilence(problem) {
  $("stats").dataset.state = "bad";
  $("points").textContent = problem.status ? "The index does not answer" : problem.title;
  $("lag").textContent = "";
  $("failing").hidden = true;
}

async function openFailures() {
  $("failures-list").replaceChildren();
  $("failures-summary").textContent = "…";
  $("failures").showModal();
  try {
    const answer = await failures();
    $("failures-summary").textContent = described(answer);
    $("failures-list").append(...answer.failures.map(failure));
  } catch (problem) {
    $("failures-summary").textContent = `${problem.title}. ${problem.detail}`;
  }
}

function described({ failures: shown, total }) {
  if (!total) return "None fails now.";
  return total > shown.length ? `The first ${shown.length} of ${number.format(total)}.` : "They cannot be found until their picture succeeds.";
}

function failure({ id, key, reason, message, attempts, first_failed }) {
  const name = id ?? (typeof key === "object" ? JSON.stringify(key) : key);
  const head = element("div", "", element("b", "", String(name)), element("span", "tag", reason));
  const since = `${attempts} ${attempts === 1 ? "attempt" : "attempts"} since ${new Date(first_failed).toLocaleString()}`;
  return element("li", "", head, element("div", "", message), element("p", "", since));
}
