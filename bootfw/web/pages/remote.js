// Requests to the server, and its stream of events.

export const REFRESH = 15000; // ms between loads of a list that has no events

export class RequestError extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

async function bodyOf(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    // An error of a proxy in between has another form.
  }
  if (!response.ok || body === null) {
    throw new RequestError(response.status, body?.error ?? `the server answered ${response.status} ${response.statusText}`);
  }
  return body;
}

/** GET a path of the API: read("boots", {mac: "52:54:00:00:00:01"}). Empty values are left out. */
export async function read(path, query = {}) {
  const parameters = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const text = new URLSearchParams(parameters).toString();
  return bodyOf(await fetch(`api/${path}${text ? `?${text}` : ""}`));
}

let token = null; // lives as long as the page

/**
 * POST to a path of the API: post("release", {address: "10.0.0.5"}).
 * promptForToken(problem) returns the token, or null if the viewer cancels; then nothing is sent.
 */
export async function post(path, body, promptForToken) {
  token ??= await promptForToken("");
  if (token === null) return null;
  const response = await fetch(`api/${path}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${token}` },
    body: JSON.stringify(body),
  });
  if (response.status === 401) {
    token = null;
    token = await promptForToken("The token is wrong.");
    return token === null ? null : post(path, body, promptForToken);
  }
  return bodyOf(response);
}

/** Call listeners[name](value) for each event, and listeners.connection(true or false) when there is one or none. */
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
