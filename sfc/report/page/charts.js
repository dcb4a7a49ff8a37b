"use strict";
const DATA = JSON.parse(document.getElementById("data").textContent);

// Make an element: attributes by name, listeners by on..., children in order.
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

// Charts are drawn when they come near the screen: many classes make large ones.
const OPTIONS = { actions: { export: true, source: false, compiled: false, editor: false }, renderer: "svg" };

function draw(element) {
  if (element.dataset.drawn) return;
  element.dataset.drawn = "yes";
  const spec = DATA.charts[element.dataset.chart];
  vegaEmbed(element, spec, OPTIONS).catch((error) => {
    element.textContent = `This chart cannot be drawn: ${error.message}`;
  });
}

const nearby = new IntersectionObserver(
  (entries) => entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target)),
  { rootMargin: "800px" },
);
document.querySelectorAll("[data-chart]").forEach((element) => nearby.observe(element));
addEventListener("beforeprint", () => document.querySelectorAll("[data-chart]").forEach(draw));
