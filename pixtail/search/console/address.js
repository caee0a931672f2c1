// The page's address says what is asked, so that it can be shared: ?q=red+sedan&category=car or ?similar=42.
// A picture to search by is no part of it: the history keeps the picture's number, and this page the picture.

const pictures = new Map();

// Names that the API or this page keeps for itself; every other name asks for a column's value.
const RESERVED = new Set(["q", "similar", "picture", "text", "limit", "offset", "min_score"]);

export function read() {
  const parameters = new URLSearchParams(location.search);
  const filters = [...parameters].filter(([name]) => !RESERVED.has(name));
  return { query: queryOf(parameters), filters };
}

function queryOf(parameters) {
  const number = parameters.get("picture");
  if (number) return pictures.has(number) ? { kind: "picture", file: pictures.get(number) } : null;
  const similar = parameters.get("similar");
  if (similar) return { kind: "similar", id: similar };
  const text = (parameters.get("q") ?? "").trim();
  return text ? { kind: "text", text } : null;
}

export function write(query, filters) {
  const parameters = new URLSearchParams(query ? [asked(query), ...filters] : []);
  const address = parameters.size ? `?${parameters}` : location.pathname;
  if (address !== location.search) history.pushState(null, "", address);
}

function asked(query) {
  if (query.kind === "similar") return ["similar", query.id];
  if (query.kind === "text") return ["q", query.text];
  return ["picture", remembered(query.file)];
}

function remembered(file) {
  const known = [...pictures].find(([, kept]) => kept === file);
  const number = known?.[0] ?? String(pictures.size + 1);
  pictures.set(number, file);
  return number;
}
