// One image large: two layers with a wipe between them, its figures, and its way through the steps.
const viewer = document.getElementById("viewer");
const wipe = { left: null, right: null, at: 50 };

// All layers of an image in a product: [name, layer, found] of every run.
function layersOf(product, example) {
  const entries = [];
  founds(example).forEach(([run, found], i) => {
    const prefix = several ? `${GALLERY.runs[run]}: ` : "";
    if (i === 0) {
      entries.push(["image", { view: "image" }, found]);
      if (picture(found, "truth")) entries.push(["ground truth", { view: "truth" }, found]);
    }
    for (const map of product.maps) {
      const name = product.maps.length > 1 ? ` ${map}` : "";
      if (picture(found, "labels", map)) entries.push([`${prefix}labels${name}`, { view: "labels", map }, found]);
      if (picture(found, "labels", map) && picture(found, "truth")) entries.push([`${prefix}mistakes${name}`, { view: "mistakes", map }, found]);
      for (const { label } of found.pictures.filter((p) => p.kind === "heat" && p.map === map)) {
        entries.push([`${prefix}activation${name}: ${product.labels[label].name}`, { view: "heat", map, label }, found]);
      }
    }
  });
  return entries;
}

// The same image in every product that shows it.
function way(example, split) {
  const tiles = [];
  const absent = [];
  for (const product of GALLERY.products) {
    const same = product.examples.find(({ id }) => id === example.id);
    if (!same) {
      if (product.split === split) absent.push(product.title);
      continue;
    }
    founds(same).forEach(([run, found], i) => {
      if (!tiles.length) {
        tiles.push(stack("div", {}, product, found, { view: "image" }, 1, "image"));
        if (picture(found, "truth")) tiles.push(stack("div", {}, product, found, { view: "truth" }, 0.75, "ground truth"));
      }
      const iou = found.iou === null ? "" : ` ${found.iou.toFixed(0)} %`;
      const caption = `${product.title}${several ? `, ${GALLERY.runs[run]}` : ""}${iou}`;
      tiles.push(stack("div", {}, product, found, { view: "labels", map: product.main }, 0.75, caption));
    });
  }
  const note = absent.length ? `Not among the images that are kept of: ${absent.join(", ")}.` : "";
  return [make("div", { class: "strip" }, ...tiles), make("p", { class: "note" }, note)];
}

function wiped(product, entries) {
  const [left, right] = [wipe.left, wipe.right].map((name) => entries.find(([entry]) => entry === name));
  const under = stack("div", {}, product, right[2], right[1], 0.75, null);
  const over = stack("div", {}, product, left[2], left[1], 0.75, null);
  const line = make("div", { class: "line" });
  const range = make("input", { type: "range", min: 0, max: 100, value: wipe.at, "aria-label": "where one layer ends and the other begins" });
  const frame = make("div", { class: "wipe" }, under, over, line);
  const set = (at) => {
    wipe.at = Math.min(100, Math.max(0, at));
    range.value = wipe.at;
    over.style.clipPath = `inset(0 ${100 - wipe.at}% 0 0)`;
    line.style.left = `${wipe.at}%`;
  };
  const photograph = under.querySelector("img");
  const size = () => { frame.style.aspectRatio = `${photograph.naturalWidth} / ${photograph.naturalHeight}`; };
  photograph.addEventListener("load", size);
  if (photograph.complete) size();
  range.addEventListener("input", () => set(Number(range.value)));
  const follow = (event) => {
    const box = frame.getBoundingClientRect();
    if (event.buttons || event.pointerType === "mouse") set(100 * (event.clientX - box.left) / box.width);
  };
  frame.addEventListener("pointermove", follow);
  frame.addEventListener("pointerdown", follow);
  set(wipe.at);
  return [frame, range];
}

function openViewer(product, shown, position) {
  const example = shown[position];
  const entries = layersOf(product, example);
  const names = entries.map(([name]) => name);
  const labels = names.find((name) => name.includes("labels"));
  if (!names.includes(wipe.left)) wipe.left = labels;
  if (!names.includes(wipe.right)) {
    wipe.right = several ? names.findLast((name) => name.includes("labels")) : names.includes("ground truth") ? "ground truth" : "image";
  }
  const again = (at) => openViewer(product, shown, at);
  const pick = (side) => make("label", {}, `${side} `, make("select", { onchange: (event) => { wipe[side] = event.target.value; again(position); } },
    ...names.map((name) => make("option", { value: name, selected: name === wipe[side] }, name))));
  const step = (by, sign, name) => make("button", { type: "button", "aria-label": name, disabled: !shown[position + by], onclick: () => again(position + by) }, sign);
  const figures = founds(example).filter(([, found]) => found.iou !== null).map(([run, found]) => make("p", {},
    make("b", {}, `${several ? `${GALLERY.runs[run]}: ` : ""}IoU ${found.iou.toFixed(1)} %`),
    ` (number ${found.rank} of ${product.images.toLocaleString("en")}, the worst first). `,
    ...Object.entries(found.of_class).map(([label, iou]) => make("span", { class: "chip" }, dot(product.labels[label].colour), `${product.labels[label].name} ${iou.toFixed(1)}`)),
    ...found.extra.map((label) => make("span", { class: "chip wrong" }, dot(product.labels[label].colour), `${product.labels[label].name} not there`))));
  const chosenLayers = [wipe.left, wipe.right].map((name) => entries.find(([entry]) => entry === name));
  const keys = [...new Set(chosenLayers.map(([, layer]) => (layer.view === "truth" ? "labels" : layer.view)))];
  const seen = new Set([0, ...founds(example).flatMap(([, found]) => [...found.shows, ...found.extra])]);
  viewer.replaceChildren(
    make("div", { class: "top" }, make("h3", {}, `${product.title}: ${example.id}`), step(-1, "‹ previous", "previous image"), step(1, "next ›", "next image"),
      make("button", { type: "button", onclick: () => viewer.close() }, "close")),
    make("div", { class: "controls" }, pick("left"), pick("right")),
    ...wiped(product, entries),
    make("div", { class: "legend" }, ...keys.flatMap((view) => legend(product, view, seen))),
    ...figures,
    make("h3", {}, "Through the steps"),
    ...way(example, product.split));
  viewer.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by && shown[position + by] && !event.target.matches("input, select")) again(position + by);
  };
  if (!viewer.open) viewer.showModal();
}
