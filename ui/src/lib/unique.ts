// Rows need keys that differ: two rows of one key stop the page. What a server sends twice is shown once.

/** The first of each key, in order. */
export function unique<T>(items: T[], key: (item: T) => string): T[] {
  const seen = new Set<string>();
  return items.filter((item) => {
    const k = key(item);
    return !seen.has(k) && seen.add(k);
  });
}
