// The latest traces.

import { data } from "./data.js";
import { count, duration, element, fill, isInUse, table, time, traceLink } from "./elements.js";
import { choice, filters, text } from "./filters.js";

const TITLES = ["Start", "Trace", "Services", "Duration", "Spans", "Failed", "Links"];

export function traces() {
  const service = choice("service", "Service");
  const route = choice("route", "Route");
  const fields = [
    text("text", "Text or trace id"), service, route,
    choice("status", "Status", [["failed", "failed"], ["ok", "not failed"]]),
    text("min_ms", "At least, ms", "number"), text("max_ms", "At most, ms", "number"),
  ];
  const form = filters(fields, () => refresh());
  const list = element("div");
  async function refresh(overview) {
    if (overview) {
      service.update(overview.services);
      route.update(overview.routes);
    }
    const found = await data("traces", form.values());
    if (overview && isInUse(list)) return;
    const rows = found.map((trace) => [
      time(trace.start_ms),
      traceLink(trace.trace_id, trace.name || "(no name)"),
      trace.services.join(", "),
      duration(trace.duration_ms),
      String(trace.spans),
      trace.failed_spans ? element("strong", { class: "failed" }, String(trace.failed_spans)) : "",
      trace.links ? String(trace.links) : "",
    ]);
    const caption = found.length ? `The latest ${count(found.length, "trace")}` : "No trace";
    fill(list, table(caption, TITLES, rows));
  }
  return { element: element("section", {}, element("h1", {}, "Traces"), form.element, list), refresh };
}
