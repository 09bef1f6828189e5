// Sorting, filtering and enlarging of a set's pictures; without scripts all are shown, in the labels' order.
"use strict";
const set = document.querySelector(".set");
if (set) {
  const cards = [...set.children];
  const choice = (name) => document.getElementById(name);
  const smallHeight = Number(set.dataset.small);
  const filters = {
    all: () => true,
    none: (card) => card.dataset.faces === "0",
    small: (card) => card.dataset.smallest !== "" && Number(card.dataset.smallest) < smallHeight,
    landmarks: (card) => Number(card.dataset.landmarks) > 0,
    unmarked: (card) => Number(card.dataset.faces) > Number(card.dataset.landmarks),
  };
  const key = (card, name) => {
    const value = card.dataset[name];
    return name === "name" ? value : value === "" ? null : Number(value);
  };
  const compare = (name, down) => (one, other) => {
    const a = key(one, name), b = key(other, name);
    // Pictures without a face have neither a smallest nor a largest: they come last.
    if (a === null || b === null) return Number(a === null) - Number(b === null);
    const difference = name === "name" ? a.localeCompare(b, "en", {numeric: true}) : a - b;
    return down ? -difference : difference;
  };
  const update = () => {
    const [name, direction] = choice("sort").value.split(" ");
    const wanted = choice("search").value.toLowerCase();
    const fits = filters[choice("filter").value];
    const order = name === "order" ? cards : [...cards].sort(compare(name, direction === "down"));
    set.append(...order);
    let shown = 0;
    for (const card of cards) {
      card.hidden = !(fits(card) && card.dataset.name.toLowerCase().includes(wanted));
      shown += card.hidden ? 0 : 1;
    }
    choice("shown").textContent = `${shown} of ${cards.length} pictures`;
  };
  for (const name of ["sort", "filter"]) choice(name).addEventListener("change", update);
  choice("search").addEventListener("input", update);

  const dialog = choice("enlarged");
  for (const view of set.querySelectorAll(".view")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "enlarge";
    button.setAttribute("aria-label", `Enlarge ${view.firstElementChild.getAttribute("aria-label")}`);
    view.append(button);
    button.addEventListener("click", () => {
      choice("enlarged-picture").replaceChildren(view.firstElementChild.cloneNode(true));
      choice("enlarged-name").textContent = view.firstElementChild.getAttribute("aria-label");
      dialog.showModal();
    });
  }
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  for (const part of document.querySelectorAll(".scripted")) part.hidden = false;
  update();
}
