// Elements by id, and new ones. Data enters the page as text only: nothing here or elsewhere writes HTML.

export const $ = (id) => document.getElementById(id);

export function element(tag, className = "", ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

export function button(className, label, onClick) {
  const made = element("button", className, label);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

const ICON_CLOSE = "m7 7 10 10M17 7 7 17";

export function closeIcon() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS(svg.namespaceURI, "path");
  path.setAttribute("d", ICON_CLOSE);
  svg.setAttribute("class", "icon");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.append(path);
  return svg;
}

// Shows a picture once it is there, and a calm frame if it cannot be had.
export function show(image, url) {
  const frame = image.parentElement;
  frame.classList.remove("loaded", "broken");
  image.onload = () => frame.classList.add("loaded");
  image.onerror = () => frame.classList.add("broken");
  if (url) image.src = url;
  else {
    image.removeAttribute("src");
    frame.classList.add("broken");
  }
}
