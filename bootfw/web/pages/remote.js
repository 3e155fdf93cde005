// What the server says: reads, actions, and the stream of events.

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

async function answer(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // An error of a proxy in between has another form.
  }
  if (!response.ok || body === null) {
    throw new Refused(response.status, body?.error ?? `the server answered ${response.status} ${response.statusText}`);
  }
  return body;
}

/** What a path of the API returns: read("boots", {mac: "52:54:00:00:00:01"}). Empty values are left out. */
export async function read(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(given).toString();
  return answer(await fetch(`api/${path}${text ? `?${text}` : ""}`));
}

let token = null; // lives as long as the page

/** Have the server do something: act("release", {address: "10.0.0.5"}). ask() gives the token, or null. */
export async function act(path, body, ask) {
  token ??= await ask("");
  if (token === null) return null;
  const response = await fetch(`api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify(body),
  });
  if (response.status === 401) {
    token = null;
    token = await ask("The token is wrong.");
    return token === null ? null : act(path, body, ask);
  }
  return answer(response);
}

/** Call listeners[name](value) for each event, and listeners.connection(whether there is one). */
export function follow(listeners) {
  const source = new EventSource("api/events");
  for (const name of ["boot", "status", "throughput", "resync"]) {
    source.addEventListener(name, (event) => listeners[name]?.(JSON.parse(event.data)));
  }
  source.onopen = () => listeners.connection(true);
  source.onerror = () => {
    listeners.connection(false);
    // After an error response, a browser does not connect again by itself.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => follow(listeners), 5000);
  };
}
