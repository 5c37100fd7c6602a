// The search of log records.

import { data } from "./data.js";
import { attributeList, count, element, fill, isInUse, time, traceLink } from "./elements.js";
import { choice, filters, text } from "./filters.js";

const SEVERITIES = [["5", "DEBUG"], ["9", "INFO"], ["13", "WARN"], ["17", "ERROR"]];

export function logs() {
  const service = choice("service", "Service");
  const fields = [text("text", "Text or trace id"), service, choice("min_severity", "At least", SEVERITIES)];
  const form = filters(fields, () => refresh());
  const list = element("div");
  async function refresh(overview) {
    if (overview) service.update(overview.services);
    const found = await data("logs", form.values());
    if (overview && isInUse(list)) return;
    const text = found.length ? `The latest ${count(found.length, "log record")}` : "No log record";
    fill(list, element("p", {}, text), logList(found));
  }
  return { element: element("section", {}, element("h1", {}, "Logs"), form.element, list), refresh };
}

/** Creates a list of log records. Each opens to show its attributes. */
export function logList(found) {
  return element("ul", { class: "logs" }, ...found.map((log) => element("li", {}, logRecord(log))));
}

function logRecord(log) {
  const summary = element("summary", {},
    element("time", {}, time(log.time_ms)), " ",
    element("span", { class: `severity ${log.severity.toLowerCase()}` }, log.severity), " ",
    element("span", { class: "service" }, log.service), " ",
    log.body || log.event);
  const trace = log.trace_id
    && element("p", {}, traceLink(log.trace_id, `trace ${log.trace_id}`, log.span_id));
  const details = element("details", {}, summary);
  // The attributes are created when they are first shown.
  details.addEventListener("toggle", () => {
    const more = { ...log.attributes, "event name": log.event, scope: log.scope };
    if (details.children.length === 1) details.append(...(trace ? [trace] : []), attributeList(more));
  });
  return details;
}
