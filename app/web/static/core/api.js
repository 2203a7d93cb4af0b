/** The server's HTTP API, reached relative to this file, so that the page works under any path prefix. */

import { noteServerTime } from "./clock.js";

/** Address of the page, with a slash at its end. */
export const ROOT = new URL("../../", import.meta.url);
const TIMEOUT_MS = 15_000;
const PAGE_LIMIT = 1_000;

let key = null;

/** Send this key from now on. */
export function useKey(used) {
  key = used;
}

/** An answer other than success; `message` is what the server says, `body` the whole answer where it is JSON. */
export class ApiError extends Error {
  constructor(status, message, body = null) {
    super(message);
    this.status = status;
    this.body = body;
  }
}

/** Get JSON; parameters that are null or undefined are left out. Rejects with ApiError. */
export function get(path, parameters = {}) {
  const address = new URL(path, ROOT);
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined) address.searchParams.append(name, value);
  }
  return request(address, { method: "GET" });
}

/** Get all items of a list that comes in pages, up to a number of them. */
export async function getAll(path, parameters = {}, most = 20_000) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(path, { limit: PAGE_LIMIT, ...parameters, cursor });
    items.push(...page.items);
    cursor = page.next;
  } while (cursor !== null && items.length < most);
  return items;
}

/** Post JSON. Rejects with ApiError. */
export function post(path, body = null) {
  return send("POST", path, body);
}

/** Put JSON. Rejects with ApiError. */
export function put(path, body) {
  return send("PUT", path, body);
}

/** Delete. Rejects with ApiError. */
export function remove(path) {
  return request(new URL(path, ROOT), { method: "DELETE" });
}

function send(method, path, body) {
  const sent = body === null ? {} : { body: JSON.stringify(body), headers: { "Content-Type": "application/json" } };
  return request(new URL(path, ROOT), { method, ...sent });
}

async function request(address, options) {
  if (key === null) throw new ApiError(0, "Signed out"); // meanwhile; a request without a key would be refused
  let answer;
  try {
    answer = await fetch(address, {
      ...options,
      cache: "no-store",
      headers: { ...options.headers, "X-API-Key": key },
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
  } catch {
    throw new ApiError(0, "The server did not answer");
  }
  noteServerTime(Date.parse(answer.headers.get("Date")) + 500);
  const body = parse(await answer.text());
  if (!answer.ok) throw new ApiError(answer.status, body?.detail ?? `The server answered ${answer.status}`, body);
  return body;
}

/** Return JSON as its value; null for an empty answer, and for one that something else than Tidegauge gave. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
