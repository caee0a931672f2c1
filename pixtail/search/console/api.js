// The HTTP API: answers as objects, errors as `Problem`s (RFC 9457).

export class Problem extends Error {
  constructor({ title, detail = "", remedy = "", status = 0 }) {
    super(title);
    Object.assign(this, { title, detail, remedy, status });
  }
}

const SILENCE = { title: "Pixtail does not answer", detail: "The server is stopped or cannot be reached.", remedy: "" };

export async function ask(url, init = {}) {
  const response = await fetch(url, init).catch((error) => {
    throw error.name === "AbortError" ? error : new Problem(SILENCE);
  });
  const body = parsed(await response.text());
  if (!response.ok) throw new Problem({ title: `Error ${response.status}`, status: response.status, ...body });
  return body;
}

// A key may be as large as 2^64 - 1, which a JavaScript number cannot hold: such integers stay text.
function parsed(text) {
  try {
    return JSON.parse(text, (_, value, context) =>
      Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? context.source : value);
  } catch {
    return {};
  }
}

// `query` is {kind: "text", text}, {kind: "similar", id} or {kind: "picture", file}; `filters` are [column, value] pairs.
export function search(query, filters, { limit, offset, signal }) {
  const options = new URLSearchParams(filters);
  options.set("limit", limit);
  options.set("offset", offset);
  if (query.kind === "picture") {
    const form = new FormData();
    form.append("file", query.file);
    return ask(`/api/v1/search/image?${options}`, { method: "POST", body: form, signal });
  }
  if (query.kind === "similar") {
    return ask(`/api/v1/images/${encodeURIComponent(query.id)}/similar?${options}`, { signal });
  }
  options.set("text", query.text);
  return ask(`/api/v1/search?${options}`, { signal });
}

export const stats = () => ask("/api/v1/stats");
export const failures = () => ask("/api/v1/failures?limit=200");
export const image = (id) => ask(`/api/v1/images/${encodeURIComponent(id)}`);

export function thumbnail(hit, size) {
  if (!hit.picture) return null;
  return `${hit.picture}${hit.picture.includes("?") ? "&" : "?"}size=${size}`;
}

// A row is called by its title, else by its file, else by its key.
export function titleOf(hit) {
  const { title, name } = hit.payload;
  const file = hit.sync?.ref?.split(/[?#]/)[0].split("/").pop();
  return text(title) || text(name) || file || `Image ${hit.id}`;
}

const text = (value) => (typeof value === "string" ? value.trim() : "");
