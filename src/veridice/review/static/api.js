// What the page asks of the desk. A request that fails says why in words; one that could not be sent is tried again.
"use strict";

export class Refused extends Error {
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

async function answered(response) {
  if (response.ok) return response;
  let reason = response.statusText;
  try {
    const said = (await response.json()).detail;
    reason = typeof said === "string" ? said : "the desk does not understand this request";
  } catch {
    // Not every answer is one of the desk's own.
  }
  throw new Refused(response.status, reason);
}

export async function ask(path) {
  return (await answered(await fetch(path, { cache: "no-store" }))).json();
}

// Sends until the desk answers: it may be started again meanwhile. `waiting` is told of each try that failed.
export async function send(method, path, content, waiting) {
  const words = content !== undefined && !(content instanceof Blob);
  const options = { method, body: words ? JSON.stringify(content) : content, headers: words ? { "Content-Type": "application/json" } : {} };
  for (let tries = 0; ; tries += 1) {
    try {
      return await (await answered(await fetch(path, options))).json();
    } catch (error) {
      if (error instanceof Refused && (error.status < 500 || error.status === 507)) throw error;
      waiting(tries, error);
      await new Promise((done) => setTimeout(done, Math.min(300 * 2 ** tries, 5000)));
    }
  }
}

export const scanPath = (scan, rest = "") => `/api/scans/${encodeURIComponent(scan)}${rest}`;

export function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
