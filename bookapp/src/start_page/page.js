// Sends the request of a button and shows the response with a link to its trace. Shows the active alerts.

const byId = (id) => document.getElementById(id);
const { grafana, viewer, alertmanager } = document.documentElement.dataset;
const minute = 60_000;
let book = 1;

// A link to Explore with a query to Tempo and one to Loki, for a range in milliseconds.
function exploreUrl(traceql, logql, from, to) {
  const pane = (uid, query) => ({
    datasource: uid,
    queries: [{ refId: "A", datasource: { type: uid, uid }, ...query }],
    range: { from: String(from), to: String(to) },
  });
  const panes = {
    t: pane("tempo", { queryType: "traceql", query: traceql }),
    l: pane("loki", { queryType: "range", expr: logql }),
  };
  const query = new URLSearchParams({ schemaVersion: 1, orgId: 1, panes: JSON.stringify(panes) });
  return `${grafana}/explore?${query}`.replaceAll("+", "%20");
}

function traceUrl(trace) {
  if (viewer) return `${viewer}/#/traces/${trace}`;
  const logql = `{service_name=~".+"} | trace_id="${trace}"`;
  return exploreUrl(trace, logql, Date.now() - 60 * minute, Date.now() + 60 * minute);
}

function element(name, text, attributes = {}) {
  const made = Object.assign(document.createElement(name), attributes);
  made.textContent = text;
  return made;
}

function show(method, path, status, millis, trace, body) {
  const entry = document.createElement("li");
  const summary = `${method} ${path}: ${status}`;
  entry.append(element("strong", summary), ` in ${millis} ms`);
  if (trace) {
    const place = viewer ? "the viewer" : "Grafana";
    const label = `open the trace of ${summary} in ${place}`;
    const link = { href: traceUrl(trace), target: "_blank", rel: "noopener", ariaLabel: label };
    entry.append(", trace ", element("code", trace), " ");
    entry.append(element("a", `open in ${place}`, link));
  }
  entry.append(element("pre", body, { tabIndex: 0 }));
  byId("said").textContent = summary;
  entry.className = typeof status === "number" && status < 400 ? "good" : "bad";
  byId("answers").prepend(entry);
}

async function send(method, path, body) {
  const headers = {};
  if (body) headers["content-type"] = "application/json";
  if (byId("token").value) headers.authorization = `Bearer ${byId("token").value}`;
  const started = performance.now();
  try {
    const response = await fetch(path, { method, headers, body });
    const text = await response.text();
    const trace = response.headers.get("traceparent")?.split("-")[1];
    show(method, path, response.status, Math.round(performance.now() - started), trace, text);
    if (response.ok && path.startsWith("/books/") && method === "POST") {
      book = [JSON.parse(text)].flat().at(-1);
      byId("book").value = book;
    }
  } catch (error) {
    show(method, path, "no response", Math.round(performance.now() - started), null, String(error));
  }
}

async function listRules() {
  const response = await fetch("/error-injection").catch(() => null);
  if (!response?.ok) {
    byId("rules").replaceChildren(element("li", "unknown: the fault rules could not be loaded"));
    return;
  }
  const isActive = (rule) => !rule.ends_at || new Date(rule.ends_at) > new Date();
  const rules = (await response.json()).filter(isActive);
  const describe = (rule) =>
    `${rule.service}: ${rule.http_method} ${rule.endpoint_pattern}: ${rule.kind}, ` +
    `${Math.round(rule.error_rate * 100)} % of requests`;
  const items = rules.map((rule) => element("li", describe(rule)));
  byId("rules").replaceChildren(...(items.length ? items : [element("li", "none")]));
}

function describeAlert({ labels, annotations, startsAt }) {
  const start = new Date(startsAt);
  const range = [start.getTime() - 15 * minute, start.getTime() + 60 * minute];
  const links = [
    ["dashboard", `${grafana}${annotations.dashboard}`],
    ["runbook", `${grafana}${annotations.runbook}`],
    ["traces and logs", exploreUrl(annotations.traces, annotations.logs, ...range)],
  ];
  const entry = element("li", "");
  const title = `${labels.severity}: ${labels.alertname}`;
  entry.append(element("strong", title), ` since ${start.toLocaleString()}: ${annotations.summary}. `);
  entry.append(annotations.impact);
  for (const [text, href] of links) {
    const ariaLabel = `${text} of ${labels.alertname} in Grafana`;
    entry.append(" ", element("a", text, { href, target: "_blank", rel: "noopener", ariaLabel }));
  }
  entry.className = labels.severity === "page" ? "bad" : "";
  return entry;
}

async function listAlerts() {
  const url = `${alertmanager}/api/v2/alerts?active=true&silenced=false&inhibited=false`;
  let items;
  try {
    const response = await fetch(url, { signal: AbortSignal.timeout(5_000) });
    const alerts = await response.json();
    // The watchdog has the severity none.
    items = alerts.filter(({ labels }) => labels.severity !== "none").map(describeAlert);
    if (!items.length) items = [element("li", "none")];
  } catch (error) {
    items = [element("li", `unknown: Alertmanager does not answer (${error})`)];
  }
  byId("alerts").replaceChildren(...items);
}

for (const button of document.querySelectorAll("button[data-path]")) {
  button.addEventListener("click", async () => {
    const { method, path, body } = button.dataset;
    await send(method, path.replace("{book}", book), body);
    await listRules();
  });
}
byId("token").form.addEventListener("submit", (event) => event.preventDefault());
byId("send").hidden = false;
listRules();
if (alertmanager) {
  byId("alerting").hidden = false;
  listAlerts();
  setInterval(listAlerts, minute / 4);
}
