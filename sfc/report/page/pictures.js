// An image with one layer over it: labels, ground truth, mistakes or activation.
const GALLERY = DATA.gallery;
const MISTAKES = {
  over: { name: "labelled, but background", colour: [225, 50, 70] },
  under: { name: "missed", colour: [40, 90, 200] },
  other: { name: "another class", colour: [245, 160, 30] },
  unknown: { name: "not measured", colour: [150, 150, 150] },
};
const decoded = new Map();

function picture(found, kind, map = null, label = null) {
  return found.pictures.find(
    (p) => p.kind === kind && (map === null || p.map === map) && (label === null || p.label === label),
  );
}

// Label-map colours as numbers, so that two maps can be compared pixel by pixel.
async function pixels(src) {
  if (!decoded.has(src)) {
    decoded.set(src, (async () => {
      const image = new Image();
      image.src = GALLERY.pictures[src];
      await image.decode();
      const canvas = make("canvas", { width: image.naturalWidth, height: image.naturalHeight });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      const { data, width, height } = context.getImageData(0, 0, canvas.width, canvas.height);
      return { width, height, values: new Uint32Array(data.buffer) };
    })());
  }
  return decoded.get(src);
}

function packed(colour) {
  const [r, g, b] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  return (255 << 24 | b << 16 | g << 8 | r) >>> 0;
}

// Fill a canvas with what is wrong in `said`; right pixels stay clear.
async function drawMistakes(canvas, product, truthSrc, saidSrc) {
  const [truth, said] = await Promise.all([pixels(truthSrc), pixels(saidSrc)]);
  canvas.width = truth.width;
  canvas.height = truth.height;
  const context = canvas.getContext("2d");
  const image = context.createImageData(truth.width, truth.height);
  const background = 0; // transparent
  const ignored = packed(product.labels.at(-1).colour);
  truth.values.forEach((value, i) => {
    const undecided = said.values[i] === ignored ? background : said.values[i]; // as it is measured
    let kind = null;
    if (value === ignored) kind = "unknown";
    else if (undecided === value) return;
    else if (value === background) kind = "over";
    else kind = undecided === background ? "under" : "other";
    image.data.set([...MISTAKES[kind].colour, 255], 4 * i);
  });
  context.putImageData(image, 0, 0);
}

// A layer is {view: image|labels|truth|mistakes|heat, map, label}. Null where there is no such picture.
function layerElement(product, found, layer) {
  if (layer.view === "image") return make("img", { class: "over", src: GALLERY.pictures[picture(found, "image").src], alt: "" });
  const truth = picture(found, "truth");
  if (layer.view === "mistakes") {
    const said = picture(found, "labels", layer.map);
    if (!truth || !said) return null;
    const canvas = make("canvas", { class: "over sharp" });
    drawMistakes(canvas, product, truth.src, said.src);
    return canvas;
  }
  const shown = { labels: () => picture(found, "labels", layer.map), truth: () => truth,
    heat: () => picture(found, "heat", layer.map, layer.label) }[layer.view]();
  return shown ? make("img", { class: layer.view === "heat" ? "over" : "over sharp", src: GALLERY.pictures[shown.src], alt: "" }) : null;
}

// The photograph with a layer over it, as what `tag` says.
function stack(tag, attributes, product, found, layer, opacity, caption = null) {
  const photograph = make("img", { src: GALLERY.pictures[picture(found, "image").src], alt: "", loading: "lazy" });
  const over = layerElement(product, found, layer);
  if (over && layer.view !== "image") over.style.opacity = opacity;
  return make(tag, { class: "stack", ...attributes }, photograph, over, caption === null ? null : make("span", {}, caption));
}

function dot(colour) {
  return make("span", { class: "dot", style: `background: ${colour}` });
}

function legend(product, view, labels) {
  const entry = (colour, name) => make("span", {}, dot(colour), name);
  if (view === "mistakes") {
    return Object.values(MISTAKES).map(({ name, colour }) => entry(`rgb(${colour})`, name));
  }
  if (view === "heat") {
    const ramp = make("span", { class: "ramp", style: `background: linear-gradient(90deg, ${product.scale.join(", ")})` });
    return [make("span", {}, "no activation", ramp, "the most in this image")];
  }
  return view === "image" ? [] : [...labels].filter((i) => i).sort((a, b) => a - b).map((i) => entry(product.labels[i].colour, product.labels[i].name));
}
