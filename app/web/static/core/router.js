/** The address: a route in the fragment, filters and sorting in the query, so that a view can be shared. */

const listeners = new Set();

/** Call `listener` whenever the route or the filters have changed; return a function that ends this. */
export function onAddress(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Return the route: its name, its argument and its parameters; "overview" at the root. */
export function readRoute() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const slash = path.indexOf("/");
  const name = slash < 0 ? path : path.slice(0, slash);
  return {
    name: name || "overview",
    argument: slash < 0 ? null : decode(path.slice(slash + 1)),
    parameters: new URLSearchParams(query),
  };
}

/** Return the link to a route. */
export function linkTo(name, argument = null, parameters = {}) {
  const query = new URLSearchParams(parameters).toString();
  const path = argument === null ? name : `${name}/${encodeURIComponent(argument)}`;
  return `#/${path}${query && `?${query}`}`;
}

/** Change the parameters of the route in place; null removes one. */
export function changeRoute(changes) {
  const route = readRoute();
  for (const [name, value] of Object.entries(changes)) put(route.parameters, name, value);
  history.replaceState(null, "", linkTo(route.name, route.argument, route.parameters));
  tell();
}

/** Lead the route to another argument in place, as to the new name of a sensor. */
export function changeArgument(argument) {
  const { name, parameters } = readRoute();
  history.replaceState(null, "", linkTo(name, argument, parameters));
  tell();
}

/** Return the filters of the overview. */
export function readFilters() {
  const query = new URLSearchParams(location.search);
  return {
    text: query.get("q") ?? "",
    show: query.get("show") ?? "",
    sort: query.get("sort") ?? "name",
    group: query.get("group") ?? "",
  };
}

/** Change filters in place; a filter at its default leaves the address. */
export function changeFilters({ text, show, sort, group }) {
  const address = new URL(location);
  const query = address.searchParams;
  if (text !== undefined) put(query, "q", text || null);
  if (show !== undefined) put(query, "show", show || null);
  if (sort !== undefined) put(query, "sort", sort === "name" ? null : sort);
  if (group !== undefined) put(query, "group", group || null);
  history.replaceState(null, "", address);
  tell();
}

function put(parameters, name, value) {
  if (value === null) parameters.delete(name);
  else parameters.set(name, value);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function tell() {
  for (const listener of listeners) listener();
}

addEventListener("hashchange", tell);
addEventListener("popstate", tell);
