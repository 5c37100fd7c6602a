// The metrics as small charts.

import { data } from "./data.js";
import { attributeList, element, fill, isInUse, shape, time, traceLink } from "./elements.js";
import { choice, filters, text } from "./filters.js";

const WIDTH = 280;
const HEIGHT = 60;

export function metrics([name]) {
  const service = choice("service", "Service");
  const form = filters([text("text", "Name"), service], () => refresh());
  if (name) form.element.querySelector("input").value = decodeURIComponent(name);
  const list = element("div", { class: "charts" });
  async function refresh(overview) {
    if (overview) service.update(overview.services);
    const found = await data("metrics", { ...form.values(), limit: 200 });
    if (overview && isInUse(list)) return;
    fill(list, ...(found.length ? found.map(chart) : [element("p", {}, "No metric")]));
  }
  return { element: element("section", {}, element("h1", {}, "Metrics"), form.element, list), refresh };
}

/** Creates the chart of a series. */
function chart(series) {
  const { values, label } = valuesOf(series);
  const latest = values.at(-1)?.[1];
  const shown = latest === undefined ? "" : `${rounded(latest)} ${label}`;
  const exemplars = series.exemplars.map((exemplar) =>
    element("li", {}, traceLink(exemplar.trace_id, `${rounded(exemplar.value)} at ${time(exemplar.time_ms)}`,
      exemplar.span_id)));
  const labels = Object.entries(series.attributes).map(([key, value]) => `${key}=${value}`).join(", ");
  return element("article", { class: "chart" },
    element("h2", {}, series.name),
    element("p", {}, `${series.service}: ${shown}`),
    element("p", { class: "labels", title: labels }, labels || "\u00a0"),
    line(values, `${series.name} of ${series.service}, now ${shown}`),
    element("details", {}, element("summary", {}, "more"),
      element("p", {}, series.description), attributeList(series.attributes)),
    exemplars.length ? element("ul", { "aria-label": "exemplars" }, ...exemplars) : "");
}

/**
 * Returns pairs of time and value, and the unit: for a gauge its values, for a counter its rate, for a histogram
 * the mean.
 */
function valuesOf(series) {
  const unit = series.unit.replace(/^\{(.*)\}$/, "$1") || "1";
  const points = series.points;
  if (series.instrument === "gauge" || series.instrument === "updowncounter") {
    return { values: points.map((point) => [point.time_ms, point.value]), label: unit };
  }
  const isHistogram = series.instrument === "histogram";
  const values = [];
  for (let index = 1; index < points.length; index += 1) {
    const [before, point] = [points[index - 1], points[index]];
    const since = (now, then) => (series.is_delta || now < then ? now : now - then);
    const sum = since(point.value, before.value);
    const count = since(point.count, before.count);
    const seconds = (point.time_ms - before.time_ms) / 1000;
    if (isHistogram && count > 0) values.push([point.time_ms, sum / count]);
    if (!isHistogram && seconds > 0) values.push([point.time_ms, sum / seconds]);
  }
  return { values, label: isHistogram ? `${unit}, mean` : `${unit}/s` };
}

/** Draws values over time. */
function line(values, label) {
  const times = values.map(([time]) => time);
  const numbers = values.map(([, value]) => value);
  const [from, to] = [Math.min(...times), Math.max(...times)];
  const [low, high] = [Math.min(0, ...numbers), Math.max(0, ...numbers)];
  const x = (time) => ((time - from) / (to - from || 1)) * WIDTH;
  const y = (value) => HEIGHT - 2 - ((value - low) / (high - low || 1)) * (HEIGHT - 4);
  const points = values.map(([time, value]) => `${x(time).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
  return shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label },
    shape("polyline", { points }));
}

function rounded(value) {
  return Number(value.toPrecision(3)).toLocaleString("en");
}
