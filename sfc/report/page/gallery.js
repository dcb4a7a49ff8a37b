// The galleries: one of each product, its images the worst first.
const VIEWS = { image: "Image", labels: "Labels", truth: "Ground truth", mistakes: "Mistakes", heat: "Activation" };
const state = { product: 0, view: "labels", map: null, label: null, order: "worst", opacity: 0.65 };
const place = document.getElementById("gallery");
const several = GALLERY.runs.length > 1;

function founds(example) {
  return Object.entries(example.found);
}

function score(found) {
  if (state.label === null) return found.iou;
  return found.of_class[state.label] ?? (found.extra.includes(state.label) ? 0 : null);
}

function has(example, label) {
  return founds(example).some(([, found]) => found.shows.includes(label) || found.extra.includes(label));
}

// The worst run of an image decides, and unmeasured images come last in the order they were given.
function rank(example) {
  const scores = founds(example).map(([, found]) => score(found)).filter((value) => value !== null);
  if (!scores.length) return Infinity;
  if (state.order === "difference") return scores.length > 1 ? -Math.abs(scores[0] - scores.at(-1)) : Infinity;
  return state.order === "best" ? -Math.max(...scores) : Math.min(...scores);
}

function chosen(product) {
  const shown = product.examples.filter((example) => state.label === null || has(example, state.label));
  return product.measured ? [...shown].sort((a, b) => rank(a) - rank(b)) : shown;
}

// The class whose activation is shown: the chosen one, else the first that the image has.
function layerOf(found) {
  const heats = found.pictures.filter((p) => p.kind === "heat" && p.map === state.map).map((p) => p.label);
  return { view: state.view, map: state.map, label: heats.includes(state.label) ? state.label : heats[0] ?? null };
}

// The classes of an image with the IoU that each run gives them.
function chips(product, list) {
  const union = (name) => [...new Set(list.flatMap(([, found]) => found[name]))].sort((a, b) => a - b);
  const name = (label) => [dot(product.labels[label].colour), product.labels[label].name];
  const figures = (label) => list.map(([, found]) => found.of_class[label]?.toFixed(0)).filter((text) => text !== undefined);
  return [
    ...union("shows").map((label) => make("span", { class: "chip" }, ...name(label), ` ${figures(label).join(" / ")}`)),
    ...union("extra").map((label) => make("span", { class: "chip wrong", title: "labelled, but not in the image" }, ...name(label), " not there")),
  ];
}

function card(product, example, position, shown) {
  const list = founds(example);
  const stacks = list.map(([run, found]) => {
    const layer = layerOf(found);
    const caption = [several ? GALLERY.runs[run] : null, layer.view === "heat" && layer.label !== null ? product.labels[layer.label].name : null];
    return stack("button", { type: "button", "aria-label": `open ${example.id}`, onclick: () => openViewer(product, shown, position) },
      product, found, layer, state.opacity, caption.filter(Boolean).join(": ") || null);
  });
  const figures = list.map(([run, found]) => {
    if (found.iou === null) return null;
    const what = state.label === null ? "IoU" : `IoU of ${product.labels[state.label].name}`;
    const value = score(found);
    const text = `${several ? `${GALLERY.runs[run]}: ` : ""}${what} ${value === null ? "-" : `${value.toFixed(1)} %`}`;
    return make("div", {}, make("b", {}, text), make("div", { class: "bar" }, make("i", { style: `width: ${value ?? 0}%` })));
  });
  return make("figure", { class: "card" }, make("div", { class: "stacks" }, ...stacks),
    make("figcaption", {}, ...figures, make("div", {}, ...chips(product, list)), make("div", { class: "id" }, example.id)));
}

function choice(entries, current, pick, label) {
  return make("div", { class: "choice", role: "group", "aria-label": label }, ...entries.map(([key, name]) =>
    make("button", { type: "button", "aria-pressed": String(key === current), onclick: () => { pick(key); show(); } }, name)));
}

function select(label, entries, current, pick) {
  const options = entries.map(([key, name]) => make("option", { value: key, selected: key === current }, name));
  return make("label", {}, label, make("select", { onchange: (event) => { pick(event.target.value); show(); } }, ...options));
}

function available(product, view) {
  const kind = { mistakes: "truth" }[view] ?? view;
  return product.examples.some((example) => founds(example).some(([, found]) => picture(found, kind)));
}

function controls(product) {
  const views = Object.entries(VIEWS).filter(([view]) => available(product, view));
  const counts = product.labels.slice(1, -1).map((label, i) => [i + 1, label.name, product.examples.filter((example) => has(example, i + 1)).length]);
  const orders = [["worst", "worst first"], ["best", "best first"], ...(several ? [["difference", "largest difference first"]] : [])];
  const slider = make("input", { type: "range", min: 0, max: 100, value: 100 * state.opacity, "aria-label": "how strongly the layer covers the image",
    oninput: (event) => {
      state.opacity = event.target.value / 100;
      if (state.view !== "image") place.querySelectorAll(".over").forEach((over) => { over.style.opacity = state.opacity; });
    } });
  return make("div", { class: "controls" },
    choice(views, state.view, (view) => { state.view = view; }, "what is shown"),
    make("label", {}, "image", slider, "layer"),
    select("class", [["", `all (${product.examples.length})`], ...counts.filter(([, , n]) => n).map(([i, name, n]) => [String(i), `${name} (${n})`])],
      state.label === null ? "" : String(state.label), (value) => { state.label = value === "" ? null : Number(value); }),
    product.maps.length > 1 ? select("map", product.maps.map((map) => [map, map === product.main ? `${map} (main)` : map]), state.map, (map) => { state.map = map; }) : null,
    product.measured ? select("order", orders, state.order, (order) => { state.order = order; }) : null);
}

function explanation(product) {
  const fixed = product.examples.filter((example) => example.fixed).length;
  const rest = product.examples.length - fixed;
  const from = `${product.examples.length} of ${product.images.toLocaleString("en")} ${product.split} images: ${fixed} spread over the list, the same for every step`;
  const how = product.measured
    ? `${from}${rest ? `, and ${rest} with the lowest IoU of a class` : ""}. Below each image its IoU, and that of each class, in percent.`
    : `${from}. No image of this split has a mask to measure on, so they are in the order of the list.`;
  return [make("p", {}, make("b", {}, `${product.title}: `), `${product.meaning}. Click an image to compare two layers and to follow it through the steps.`),
    make("p", { class: "note" }, how)];
}

function show() {
  const product = GALLERY.products[state.product];
  if (!product.maps.includes(state.map)) state.map = product.main;
  if (!available(product, state.view)) state.view = "labels";
  const shown = chosen(product);
  const labels = new Set([0, ...shown.flatMap((example) => founds(example).flatMap(([, found]) => [...found.shows, ...found.extra]))]);
  place.replaceChildren(
    choice(GALLERY.products.map(({ title }, i) => [i, title]), state.product, (i) => { state.product = i; state.map = null; }, "step"),
    ...explanation(product),
    controls(product),
    make("div", { class: "legend" }, ...legend(product, state.view, labels)),
    make("div", { class: "cards", style: several ? `--card: min(${11 * GALLERY.runs.length}rem, 100%)` : null }, ...shown.map((example, i) => card(product, example, i, shown))));
  document.querySelectorAll(".spread").forEach((spread) => { spread.hidden = spread.dataset.of !== product.key; });
}

if (place) {
  show();
  document.querySelectorAll(".way a").forEach((link) => link.addEventListener("click", () => {
    state.product = GALLERY.products.findIndex(({ key }) => key === link.dataset.product);
    state.map = null;
    show();
  }));
}
