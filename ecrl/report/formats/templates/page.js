for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead button").forEach((button, column) => button.addEventListener("click", () => {
    const head = button.parentElement, up = head.getAttribute("aria-sort") !== "ascending";
    const value = (row) => {
      const text = row.cells[column].textContent.trim().replaceAll(",", "");
      const number = parseFloat(text);
      return text.match(/^[-+<\s]*[\d.]/) ? number : text.toLowerCase();
    };
    const order = (a, b) => (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
    const body = table.tBodies[0], rows = [...body.rows].map((row) => [value(row), row]);
    rows.sort((a, b) => (up ? 1 : -1) * order(a[0], b[0]));
    table.querySelectorAll("th").forEach((th) => th.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows.map((pair) => pair[1]));
  }));
}
const sections = () => document.querySelectorAll("section > details");
let folded = [];
addEventListener("beforeprint", () => { folded = [...sections()].filter((one) => !one.open); folded.forEach((one) => { one.open = true; }); });
addEventListener("afterprint", () => folded.forEach((one) => { one.open = false; }));
const contents = document.querySelector("details.above");
contents.addEventListener("click", (event) => { if (event.target.tagName === "A") contents.open = false; });
const hint = new ResizeObserver((seen) => seen.forEach(({ target }) => {
  const box = target.closest(".wide");
  box.classList.toggle("scrolls", box.scrollWidth > box.clientWidth);
}));
document.querySelectorAll(".wide, .wide > table").forEach((one) => hint.observe(one));
