// Tables sorted by a click on a heading; cells without a figure stay below.
function sortKey(cell) {
  const text = cell.textContent.trim();
  const number = parseFloat(text.replaceAll(",", ""));
  if (cell.classList.contains("n")) return Number.isNaN(number) ? null : number;
  return text;
}

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row) => [sortKey(row.cells[column]), row]);
  rows.sort(([a], [b]) => {
    if (a === null || b === null) return (a === null) - (b === null);
    return direction * (typeof a === "number" ? a - b : a.localeCompare(b));
  });
  body.append(...rows.map(([, row]) => row));
  for (const heading of table.tHead.rows[0].cells) heading.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((heading, column) => {
    const sort = () => {
      const before = heading.getAttribute("aria-sort");
      const first = heading.classList.contains("n") ? -1 : 1; // figures from the highest
      sortBy(table, column, before ? (before === "ascending" ? -1 : 1) : first);
    };
    heading.tabIndex = 0;
    heading.addEventListener("click", sort);
    heading.addEventListener("keydown", (event) => {
      if (event.key === "Enter" || event.key === " ") {
        event.preventDefault();
        sort();
      }
    });
  });
}

// The table of classes shows one of its figures at a time.
const SHADES = { iou: "31, 111, 139", over: "209, 73, 91", under: "48, 99, 142" };

function showMeasure(measure) {
  for (const cell of document.querySelectorAll("#class-table .shade")) {
    const difference = cell.dataset[`${measure}Difference`];
    cell.replaceChildren(cell.dataset[measure] ?? "-", ...(difference ? [make("small", {}, difference)] : []));
    const share = parseFloat(cell.dataset[measure]) / 100;
    cell.style.background = Number.isNaN(share) ? "" : `rgba(${SHADES[measure]}, ${(0.45 * share).toFixed(3)})`;
  }
  for (const button of document.querySelectorAll("#measure button")) {
    button.setAttribute("aria-pressed", button.dataset.measure === measure);
  }
}
document.querySelectorAll("#measure button").forEach((button) => {
  button.addEventListener("click", () => showMeasure(button.dataset.measure));
});
showMeasure("iou");
