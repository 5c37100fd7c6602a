// Creates elements. Text from telemetry only ever becomes text, never markup.

/** Creates an element with properties and children, which are elements or texts. */
export function element(name, properties = {}, ...children) {
  const created = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === false) continue;
    if (key.startsWith("on")) created.addEventListener(key.slice(2), value);
    else if (key === "class") created.className = value;
    else created.setAttribute(key, value);
  }
  created.append(...children.filter((child) => child !== undefined));
  return created;
}

/** Creates an element of SVG. */
export function shape(name, properties = {}, ...children) {
  const created = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(properties)) created.setAttribute(key, value);
  created.append(...children);
  return created;
}

/** Creates a table. A row is a list of cells, which are elements or texts. */
export function table(caption, titles, rows) {
  const cells = (row) => row.map((cell) => element("td", {}, cell));
  return element("table", {},
    element("caption", {}, caption),
    element("thead", {}, element("tr", {}, ...titles.map((title) => element("th", { scope: "col" }, title)))),
    element("tbody", {}, ...rows.map((row) => element("tr", {}, ...cells(row)))));
}

/** Creates a list of attributes, ordered by name. */
export function attributeList(attributes) {
  const entries = Object.entries(attributes ?? {}).sort(([one], [other]) => (one < other ? -1 : 1));
  const rows = entries.flatMap(([key, value]) => [
    element("dt", {}, key),
    element("dd", {}, typeof value === "string" ? value : JSON.stringify(value)),
  ]);
  return element("dl", { class: "attributes" }, ...rows);
}

/** Whether a person uses a list: then it must not change. */
export function isInUse(list) {
  return list.contains(document.activeElement) || list.querySelector("details[open]") !== null;
}

/** Replaces what a list contains. What is the same stays, so that a click or a selection in it is not lost. */
export function fill(list, ...children) {
  const filled = list.cloneNode(false);
  filled.replaceChildren(...children);
  if (!filled.isEqualNode(list)) list.replaceChildren(...filled.childNodes);
}

/** Returns a number with a noun, of which the plural ends in s. */
export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

/** Creates a link to a trace, and to one of its spans. */
export function traceLink(trace, text, span) {
  const href = span ? `#/traces/${trace}/${span}` : `#/traces/${trace}`;
  return element("a", { href }, text);
}

/** Returns a duration with a unit and three digits. */
export function duration(milliseconds) {
  const [value, unit] =
    milliseconds >= 1000 ? [milliseconds / 1000, "s"]
    : milliseconds >= 1 ? [milliseconds, "ms"]
    : [milliseconds * 1000, "µs"];
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return `${value.toFixed(digits)} ${unit}`;
}

/** Returns a time of the day with milliseconds. */
export function time(milliseconds) {
  const date = new Date(milliseconds);
  const clock = date.toLocaleTimeString("en-GB");
  return `${clock}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Returns the number of the color of a service, from 0 to 7. */
export function colorOf(service) {
  let hash = 0;
  for (const character of service) hash = (hash * 31 + character.codePointAt(0)) % 65521;
  return hash % 8;
}
