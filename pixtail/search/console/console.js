// The page: what is asked (from the address, the field, a picture), and what is shown for it.

import * as address from "./address.js";
import { image, Problem, search, titleOf } from "./api.js";
import * as detail from "./detail.js";
import { $, button, closeIcon, element } from "./dom.js";
import * as gallery from "./gallery.js";
import * as status from "./status.js";

const EXAMPLES = ["red sedan", "白色公交车", "a yellow truck in the snow", "蓝色自行车", "silver van at night", "海边的摩托车"];
const PAGE = 24;
const PLACEHOLDER = $("text").placeholder;

let query = null;
let filters = [];
let running = new AbortController();
let samplePreview = null;

function go(nextQuery, nextFilters = filters) {
  address.write(nextQuery, nextFilters);
  follow();
}

function follow() {
  ({ query, filters } = address.read());
  detail.close();
  showQuestion();
  run();
}

async function run({ more = false } = {}) {
  running.abort();
  running = new AbortController();
  document.body.dataset.view = query ? "results" : "start";
  if (!query) return gallery.clear();
  if (!more) gallery.showLoading();
  $("more").disabled = true;
  const { signal } = running;
  try {
    refuseTooLarge(query);
    const answer = await search(query, filters, { limit: PAGE, offset: more ? gallery.hits().length : 0, signal });
    if (!signal.aborted) gallery.showHits(answer, { more, filtered: filters.length > 0, onOpen: detail.open });
  } catch (problem) {
    if (problem instanceof Problem && !signal.aborted) gallery.showProblem(problem);
    else if (problem.name !== "AbortError") throw problem;
  } finally {
    if (!signal.aborted) $("more").disabled = false;
  }
}

// A server that refuses an upload closes the connection, and browsers then report no more than that: so it is said here.
function refuseTooLarge({ file }) {
  if (!file || file.size <= status.limits.pictureBytes) return;
  const detail = `${file.name} has ${file.size} bytes; ${status.limits.pictureBytes} are allowed.`;
  throw new Problem({ title: "Picture too large", detail, status: 413 });
}

function showQuestion() {
  const text = query?.kind === "text" ? query.text : "";
  $("text").value = text;
  document.title = text ? `${text} · Pixtail` : "Pixtail";
  $("filters").replaceChildren(...filters.map(filterChip));
  showSample();
}

// The picture that is searched by, inside the field: a file of the user's, or an image of the index.
function showSample() {
  URL.revokeObjectURL(samplePreview);
  samplePreview = null;
  const asked = query;
  $("sample").hidden = !asked || asked.kind === "text";
  $("text").placeholder = $("sample").hidden ? PLACEHOLDER : "Or describe one";
  if (asked?.kind === "picture") {
    samplePreview = URL.createObjectURL(asked.file);
    nameSample(samplePreview, asked.file.name || "Pasted picture");
  } else if (asked?.kind === "similar") {
    nameSample("", `Like ${asked.id}`);
    image(asked.id).then(
      (found) => query === asked && nameSample(found.picture, `Like ${titleOf(found)}`),
      () => {}, // the search itself says what is wrong
    );
  }
}

function nameSample(url, name) {
  $("sample-picture").hidden = !url;
  if (url) $("sample-picture").src = url;
  $("sample-name").textContent = name;
  $("sample-name").title = name;
}

function filterChip([name, value]) {
  const rest = filters.filter(([otherName, otherValue]) => otherName !== name || otherValue !== value);
  const chip = button("chip", `${name}: ${value}`, () => go(query, rest));
  chip.setAttribute("aria-label", `Remove the filter ${name} ${value}`);
  chip.append(closeIcon());
  return element("li", "", chip);
}

function searchByPicture(files) {
  const file = [...(files ?? [])].find((candidate) => candidate.type.startsWith("image/"));
  if (file) go({ kind: "picture", file });
}

function submit(event) {
  event.preventDefault();
  const text = $("text").value.trim();
  if (matchMedia("(pointer: coarse)").matches) $("text").blur(); // puts the keyboard away, which covers the results
  if (text) go({ kind: "text", text });
  else if (query?.kind === "text") go(null, []);
}

function acceptPictures() {
  $("pick").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    searchByPicture($("file").files);
    $("file").value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("paste", (event) => searchByPicture(event.clipboardData?.files));
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    $("drop").hidden = ![...event.dataTransfer.types].includes("Files");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) $("drop").hidden = true;
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").hidden = true;
    searchByPicture(event.dataTransfer.files);
  });
}

function closeOnRequest() {
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // the backdrop
  }
}

function slashFindsTheField(event) {
  const writing = event.target.closest("input, dialog");
  if (event.key !== "/" || writing || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  $("text").select();
}

$("form").addEventListener("submit", submit);
$("sample-remove").addEventListener("click", () => go(null, []));
$("more").addEventListener("click", () => run({ more: true }));
$("retry").addEventListener("click", () => run());
$("examples").append(...EXAMPLES.map((text) => element("li", "", button("chip", text, () => go({ kind: "text", text })))));
document.addEventListener("keydown", slashFindsTheField);
addEventListener("popstate", follow);
detail.prepare({
  onSimilar: (hit) => go({ kind: "similar", id: String(hit.id) }, []),
  onFilter: (name, value) => go(query, [...filters.filter(([other]) => other !== name), [name, value]]),
});
acceptPictures();
closeOnRequest();
status.start();
follow();
