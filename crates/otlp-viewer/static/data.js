// Asks the viewer for telemetry.

/** Returns what a path of the viewer answers. `query` is an object; empty values are left out. */
export async function data(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
  const response = await fetch(`data/${path}?${new URLSearchParams(given)}`, {
    signal: AbortSignal.timeout(10_000),
  });
  if (!response.ok) throw new Error((await response.text()).trim() || `status ${response.status}`);
  return response.json();
}

/** Calls `arrived` when telemetry arrived, and `lost` when the viewer does not answer. */
export function listen(arrived, lost) {
  const source = new EventSource("data/live");
  source.onmessage = arrived;
  source.onopen = arrived;
  source.onerror = lost;
}
