// Sends the request of a button and shows the response with a link to its trace.

const byId = (id) => document.getElementById(id);
let book = 1;

function exploreUrl(trace) {
  const hour = 3600_000;
  const range = { from: String(Date.now() - hour), to: String(Date.now() + hour) };
  const pane = (uid, query) => ({
    datasource: uid,
    queries: [{ refId: "A", datasource: { type: uid, uid }, ...query }],
    range,
  });
  const panes = {
    t: pane("tempo", { queryType: "traceql", query: trace }),
    l: pane("loki", { queryType: "range", expr: `{service_name=~".+"} | trace_id="${trace}"` }),
  };
  const query = new URLSearchParams({ schemaVersion: 1, orgId: 1, panes: JSON.stringify(panes) });
  return `${document.documentElement.dataset.grafana}/explore?${query}`.replaceAll("+", "%20");
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
    const label = `open the trace of ${summary} in Grafana`;
    const link = { href: exploreUrl(trace), target: "_blank", rel: "noopener", ariaLabel: label };
    entry.append(", trace ", element("code", trace), " ");
    entry.append(element("a", "open in Grafana", link));
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
