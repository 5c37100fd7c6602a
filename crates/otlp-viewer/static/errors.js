// The error events that SDKs of Sentry sent.

import { data } from "./data.js";
import { attributeList, count, element, fill, isInUse, time, traceLink } from "./elements.js";

export function errors() {
  const list = element("div");
  async function refresh() {
    const found = await data("errors");
    if (isInUse(list)) return;
    const text = found.length ? `The latest ${count(found.length, "error")}` : "No error";
    fill(list, element("p", {}, text), ...found.map((event) => errorEvent(event, true)));
  }
  return { element: element("section", {}, element("h1", {}, "Errors"), list), refresh };
}

/** Creates an error event: its exceptions, its tags and the last steps before it. */
export function errorEvent(event, withTrace) {
  const exceptions = event.exception?.values ?? [];
  const title = exceptions.map(({ type, value }) => `${type}: ${value}`).join(", caused by ")
    || event.message || event.logentry?.formatted || "error";
  const when = typeof event.timestamp === "number" ? event.timestamp * 1000 : Date.parse(event.timestamp);
  const { trace_id: trace, span_id: span } = event.contexts?.trace ?? {};
  const crumbs = (event.breadcrumbs?.values ?? event.breadcrumbs ?? []).slice(-10);
  return element("article", { class: "error-event" },
    element("h3", {}, title),
    element("p", {}, `${when ? time(when) : ""} ${event.transaction ?? ""} event ${event.event_id ?? ""} `,
      withTrace && trace ? traceLink(trace, `trace ${trace}`, span) : ""),
    attributeList(event.tags),
    crumbs.length
      ? element("details", {}, element("summary", {}, `${count(crumbs.length, "step")} before`),
        element("ol", {}, ...crumbs.map((crumb) => element("li", {}, crumb.message ?? crumb.category ?? ""))))
      : "");
}
