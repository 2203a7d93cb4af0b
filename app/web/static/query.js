/** The filter and the order in the page's address, so that a view can be shared and survives a reload. */

export const SORTS = ["name", "-name", "seen", "-seen"];

/** Read the filter's text and the order from the address; an order with a leading "-" is descending. */
export function readQuery() {
  const parameters = new URLSearchParams(location.search);
  const sort = parameters.get("sort");
  return { text: parameters.get("q") ?? "", sort: SORTS.includes(sort) ? sort : SORTS[0] };
}

/** Write the filter's text and the order to the address, without defaults and without a new entry in the history. */
export function writeQuery({ text, sort }) {
  const parameters = new URLSearchParams(location.search);
  put(parameters, "q", text, "");
  put(parameters, "sort", sort, SORTS[0]);
  const search = parameters.toString();
  history.replaceState(null, "", search ? `?${search}` : location.pathname);
}

function put(parameters, name, value, fallback) {
  if (value === fallback) parameters.delete(name);
  else parameters.set(name, value);
}
