// One trace as a waterfall, and the traces that are linked with it.

import { data } from "./data.js";
import { attributeList, colorOf, count, duration, element, time, traceLink } from "./elements.js";
import { errorEvent } from "./errors.js";
import { logList } from "./logs.js";

export function trace(id, selected) {
  const list = element("div");
  let previous;
  const opened = new Set(selected ? [selected] : []);
  async function refresh() {
    const traces = await data(`traces/${id}`);
    const next = JSON.stringify(traces);
    if (next === previous) return;
    const isFirst = previous === undefined || previous === "[]";
    previous = next;
    if (!traces.length) {
      list.replaceChildren(element("p", {}, "No span of this trace is here. It appears when it arrives."));
      return;
    }
    const start = Math.min(...traces[0].spans.map((span) => span.start_ms));
    list.replaceChildren(...traces.map((trace, index) => section(trace, index, start, opened)));
    if (isFirst && selected) document.getElementById(selected)?.scrollIntoView({ block: "center" });
  }
  const title = element("h1", {}, "Trace ", element("code", {}, id));
  return { element: element("section", {}, title, list), refresh };
}

/** Creates the section of a trace. `start` is that of the first one. */
function section(trace, index, start, opened) {
  const from = Math.min(...trace.spans.map((span) => span.start_ms));
  const to = Math.max(...trace.spans.map((span) => span.start_ms + span.duration_ms));
  const later = from - start;
  const when = index === 0 ? `at ${time(from)}`
    : `linked, ${duration(Math.abs(later))} ${later < 0 ? "earlier" : "later"}`;
  const heading = element("h2", {}, index === 0 ? trace.name : traceLink(trace.trace_id, trace.name),
    element("small", {}, ` ${duration(to - from)}, ${count(trace.spans.length, "span")}, ${when}`));
  const rows = inOrder(trace.spans).map(([span, depth]) =>
    row(span, depth, { from, total: to - from || 1 }, trace, opened));
  return element("section", { class: "trace", "aria-label": trace.name },
    heading,
    element("ul", { class: "waterfall" }, ...rows),
    ...trace.errors.map((event) => errorEvent(event, false)),
    ...(trace.logs.length ? [element("h3", {}, count(trace.logs.length, "log record")), logList(trace.logs)] : []));
}

/** Returns the spans with their depths, each before its children. */
function inOrder(spans) {
  const ids = new Set(spans.map((span) => span.span_id));
  const children = new Map();
  const roots = [];
  for (const span of spans) {
    if (!ids.has(span.parent_id) || span.parent_id === span.span_id) roots.push(span);
    else children.set(span.parent_id, [...(children.get(span.parent_id) ?? []), span]);
  }
  const ordered = [];
  const seen = new Set();
  const pending = roots.map((span) => [span, 0]).reverse();
  while (pending.length) {
    const [span, depth] = pending.pop();
    if (seen.has(span)) continue;
    seen.add(span);
    ordered.push([span, depth]);
    const next = (children.get(span.span_id) ?? []).map((child) => [child, depth + 1]);
    pending.push(...next.reverse());
  }
  // Spans that are their own ancestors have no root.
  return ordered.concat(spans.filter((span) => !seen.has(span)).map((span) => [span, 0]));
}

function row(span, depth, { from, total }, trace, opened) {
  const bar = element("span", { class: `bar color${colorOf(span.service)}` });
  bar.style.left = `${((span.start_ms - from) / total) * 100}%`;
  bar.style.width = `${(span.duration_ms / total) * 100}%`;
  const name = element("span", { class: "name" }, span.name);
  name.style.paddingLeft = `${Math.min(depth, 20)}em`;
  const summary = element("summary", { class: span.has_failed ? "failed" : undefined },
    name,
    element("span", { class: "service" }, span.service),
    element("span", { class: "track" }, bar),
    element("span", { class: "duration" }, duration(span.duration_ms)),
    span.has_failed ? element("strong", { class: "failed" }, "failed") : "");
  const details = element("details", { id: span.span_id }, summary);
  const fill = () => details.children.length === 1 && details.append(spanDetails(span, trace));
  details.addEventListener("toggle", () => {
    if (details.open) {
      opened.add(span.span_id);
      fill();
    } else opened.delete(span.span_id);
  });
  if (opened.has(span.span_id)) {
    details.open = true;
    fill();
  }
  return element("li", {}, details, ...jumps(span));
}

/** Creates the links of a span to other traces and back. */
function jumps(span) {
  const jump = (link, text) => {
    const target = link.name ? `${link.name} of ${link.service}` : `span ${link.span_id}`;
    return element("p", { class: "jump" }, `${text} `, traceLink(link.trace_id, target, link.span_id));
  };
  return [
    ...span.links.map((link) => jump(link, "→ links to")),
    ...span.linked_from.map((link) => jump(link, "← linked from")),
  ];
}

function spanDetails(span, trace) {
  const logs = trace.logs.filter((log) => log.span_id === span.span_id);
  const exemplars = trace.exemplars.filter((exemplar) => exemplar.span_id === span.span_id);
  const events = span.events.map((event) => element("div", {},
    element("p", {}, `${time(event.time_ms)} ${event.name}`), attributeList(event.attributes)));
  return element("div", { class: "details" },
    element("p", {}, `${span.kind} span ${span.span_id} of ${span.scope || span.service}, at ${time(span.start_ms)}`),
    span.status_message ? element("p", { class: "failed" }, span.status_message) : "",
    attributeList(span.attributes),
    ...events,
    ...exemplars.map((exemplar) => element("p", {}, "exemplar of ",
      element("a", { href: `#/metrics/${encodeURIComponent(exemplar.metric)}` }, exemplar.metric))),
    logs.length ? logList(logs) : "",
    element("details", {}, element("summary", {}, "resource"), attributeList(span.resource)));
}
