// Tables with data-sortable get a button in each heading; without scripts they stay as they were written.
"use strict";
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const headings = [...table.tHead.rows[0].cells];
  const value = (row, column) => {
    const cell = row.cells[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent.trim();
  };
  const order = (one, other) => {
    // What is not defined comes last, in either direction.
    if (Number.isNaN(one) || Number.isNaN(other)) return null;
    return typeof one === "number" && typeof other === "number"
      ? one - other : String(one).localeCompare(String(other), "en", {numeric: true});
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...heading.childNodes);
    heading.append(button);
    button.addEventListener("click", () => {
      const wasUp = heading.getAttribute("aria-sort") === "ascending";
      const wasDown = heading.getAttribute("aria-sort") === "descending";
      const numeric = heading.classList.contains("number");
      const down = numeric ? !wasDown : wasUp;
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows].filter((row) => !row.querySelector("th[scope=rowgroup]"));
        rows.sort((a, b) => {
          const one = value(a, column), other = value(b, column);
          return order(one, other) === null
            ? Number(Number.isNaN(one)) - Number(Number.isNaN(other)) : order(one, other) * (down ? -1 : 1);
        });
        body.append(...rows);
      }
    });
  });
}
