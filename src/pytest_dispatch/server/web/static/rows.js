// Tables whose rows are steered: dragging, and the keys of the row that has the focus.

import "./vendor/sortable.min.js";
import { send } from "./forms.js";
import { pause } from "./live.js";

export function takeRows() {
  makeSortable();
  document.addEventListener("dispatch:shown", makeSortable);
  document.addEventListener("change", (event) => {
    if (event.target.matches("form.filter[method=get] select")) event.target.form.requestSubmit();
    if (!event.target.matches("[data-all]")) return;
    for (const each of event.target.closest("form").querySelectorAll("tbody input[type=checkbox]")) each.checked = event.target.checked;
  });
}

// Lets rows be dragged by their handles.
function makeSortable() {
  for (const each of document.querySelectorAll("[data-script]")) each.hidden = false;
  for (const body of document.querySelectorAll("[data-sortable] > tbody")) {
    if (window.Sortable.get(body)) continue;
    let go = () => {};
    window.Sortable.create(body, {
      handle: ".grip",
      animation: matchMedia("(prefers-reduced-motion: reduce)").matches ? 0 : 120,
      onStart: () => (go = pause()),
      onEnd: async ({ item, oldIndex, newIndex }) => {
        if (oldIndex !== newIndex) await put(item);
        go();
      },
    });
  }
}

// Tells the lab beside which row one was put.
async function put(row) {
  const [before, after] = [row.previousElementSibling, row.nextElementSibling];
  const where = before ? ["after", before] : ["before", after];
  await send(actionOf(row), [["do", where[0]], ["run", row.dataset.run], ["anchor", where[1].dataset.run]]);
}

const actionOf = (row) => row.closest("form").getAttribute("action");

const DEEDS = { t: "top", h: "hold", c: "cancel" };
const STEPS = { ArrowUp: "up", ArrowDown: "down" };

// Does what a key stands for on a row; returns whether it does.
export function rowKey(event) {
  const table = document.querySelector("[data-rows]");
  if (!table) return false;
  const rows = [...table.tBodies[0].rows];
  const row = document.activeElement?.closest("[data-rows] > tbody > tr");
  if (event.altKey) {
    if (!row || !STEPS[event.key] || !table.matches("[data-sortable]")) return false;
    steer(row, STEPS[event.key]);
    return true;
  }
  if (event.key === "j" || event.key === "k") {
    const next = row ? rows[rows.indexOf(row) + (event.key === "j" ? 1 : -1)] : rows[0];
    next?.focus();
    next?.scrollIntoView({ block: "nearest" });
    return true;
  }
  if (!row) return false;
  const steered = table.matches("[data-sortable]"); // what this viewer may steer
  const ticked = document.activeElement.matches("input[type=checkbox]");
  if (event.key === "x") row.querySelector("input[type=checkbox]")?.click();
  else if (event.key === "Enter" && (document.activeElement === row || ticked)) row.querySelector("a")?.click();
  else if (DEEDS[event.key] && steered && !event.repeat) steer(row, event.key === "h" && row.dataset.held ? "release" : DEEDS[event.key]);
  else return false;
  return true;
}

// Does something with a row, or with all that are selected if it is one of them.
function steer(row, deed) {
  const selected = [...row.parentElement.rows].filter((each) => each.querySelector("input:checked"));
  const rows = selected.includes(row) ? selected : [row];
  send(actionOf(row), [["do", deed], ...rows.map((each) => ["run", each.dataset.run])]);
}
