// The address: `#/requests/abc?status=5xx`. Everything that can be bookmarked is in it.

export interface Route {
  /** Decoded parts of the path. */
  parts: string[];
  query: URLSearchParams;
}

export function parse(hash: string): Route {
  const text = hash.replace(/^#\/?/, '');
  const cut = text.indexOf('?');
  const path = cut < 0 ? text : text.slice(0, cut);
  return { parts: path.split('/').filter(Boolean).map(decode), query: new URLSearchParams(cut < 0 ? '' : text.slice(cut + 1)) };
}

function decode(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** A link to `parts` with `query`; empty values are left out. */
export function href(parts: string[], query: Record<string, string | number | undefined> = {}): string {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined && value !== '') search.set(name, String(value));
  const text = search.toString();
  return `#/${parts.map(encodeURIComponent).join('/')}${text ? `?${text}` : ''}`;
}

class Router {
  current = $state.raw<Route>({ parts: [], query: new URLSearchParams() });
  start(): void {
    const read = () => (this.current = parse(location.hash));
    addEventListener('hashchange', read);
    read();
  }
  /** Changes parts of the query in place, without a new entry in the history. */
  set(query: Record<string, string | undefined>): void {
    const merged: Record<string, string | undefined> = { ...Object.fromEntries(this.current.query), ...query };
    history.replaceState(null, '', href(this.current.parts, merged));
    this.current = parse(location.hash);
  }
  go(to: string): void {
    location.hash = to;
  }
}

export const router = new Router();
