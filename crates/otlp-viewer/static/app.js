// The page: shows the part that the address names, and refreshes it when telemetry arrives.

import { data, listen } from "./data.js";
import { count } from "./elements.js";
import { errors } from "./errors.js";
import { logs } from "./logs.js";
import { metrics } from "./metrics.js";
import { trace } from "./trace.js";
import { traces } from "./traces.js";

const content = document.querySelector("#content");
const status = document.querySelector("#status");
const live = document.querySelector("#live");

/** What is shown: an element, and a function that fills it again. */
let shown;
let refreshing = false;
let again = false;

/** Returns the part that the address names. */
function part() {
  const [name, ...rest] = location.hash.replace(/^#\//, "").split("/");
  if (name === "logs") return logs(rest);
  if (name === "metrics") return metrics(rest);
  if (name === "errors") return errors();
  if (name === "traces" && rest[0]) return trace(rest[0], rest[1]);
  return traces();
}

async function refresh() {
  if (refreshing) {
    again = true;
    return;
  }
  refreshing = true;
  try {
    const overview = await data("overview");
    document.querySelector("#counts").textContent =
      [count(overview.spans.kept, "span"), count(overview.logs.kept, "log record"),
        `${overview.series.kept} series`, count(overview.errors.kept, "error")].join(", ");
    await shown.refresh(overview);
    status.textContent = "";
  } catch (error) {
    status.textContent = `No answer: ${error.message}`;
  }
  refreshing = false;
  if (again) {
    again = false;
    refresh();
  }
}

function show() {
  shown = part();
  content.replaceChildren(shown.element);
  for (const link of document.querySelectorAll("nav a")) {
    const isCurrent = location.hash.startsWith(link.getAttribute("href"));
    if (isCurrent) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  refresh();
}

addEventListener("hashchange", () => {
  show();
  content.focus({ preventScroll: true });
});
live.addEventListener("change", () => live.checked && refresh());
if (location.hash === "" || location.hash === "#content") location.hash = "#/traces";
show();
listen(
  () => live.checked && refresh(),
  () => (status.textContent = "The viewer does not answer. This page tries again."),
);
