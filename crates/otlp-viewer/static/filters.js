// The filters of a list.

import { element } from "./elements.js";

/** Creates a form of fields that calls `changed` with their values. */
export function filters(fields, changed) {
  const form = element("form", { class: "filters", role: "search" }, ...fields.map((field) => field.element));
  const values = () => Object.fromEntries(new FormData(form));
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => changed());
  return { element: form, values };
}

/** A field for text. */
export function text(name, label, type = "search") {
  const input = element("input", { name, type, min: type === "number" ? "0" : undefined, autocomplete: "off" });
  return { element: element("label", {}, `${label} `, input) };
}

/** A field to choose from. `update` replaces the choices: pairs of value and text, or values. */
export function choice(name, label, choices = []) {
  const select = element("select", { name });
  let previous;
  const update = (choices) => {
    const next = JSON.stringify(choices);
    if (next === previous) return;
    previous = next;
    const { value } = select;
    const options = choices.map((choice) => (Array.isArray(choice) ? choice : [choice, choice]));
    select.replaceChildren(element("option", { value: "" }, "all"),
      ...options.map(([value, text]) => element("option", { value }, text)));
    select.value = value;
  };
  update(choices);
  return { element: element("label", {}, `${label} `, select), update };
}
