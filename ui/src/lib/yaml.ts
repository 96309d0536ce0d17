// Enough of YAML to colour a line. Gives parts of the text, never markup.

export type Token = { kind: 'key' | 'text' | 'string' | 'number' | 'comment' | 'mark'; text: string };

/** The tokens of one line; joined, they are the line. */
export function tokens(line: string): Token[] {
  const out: Token[] = [];
  const push = (kind: Token['kind'], text: string) => text && out.push({ kind, text });
  const indent = /^(\s*(?:- +)*-?\s*)/.exec(line)?.[0] ?? '';
  push('mark', indent);
  let rest = line.slice(indent.length);
  const comment = commentAt(rest);
  const tail = comment < 0 ? '' : rest.slice(comment);
  rest = comment < 0 ? rest : rest.slice(0, comment);
  const pair = /^((?:"[^"]*"|'[^']*'|[^\s:"'{[][^:]*?)):(\s|$)/.exec(rest);
  if (pair?.[1] !== undefined) {
    push('key', pair[1]);
    push('mark', ':');
    rest = rest.slice(pair[1].length + 1);
  }
  for (const part of rest.split(/("(?:[^"\\]|\\.)*"|'[^']*')/)) {
    if (/^["']/.test(part)) push('string', part);
    else if (/^\s*-?\d+(\.\d+)?\s*$/.test(part) || /^\s*(true|false|null)\s*$/.test(part)) push('number', part);
    else push('text', part);
  }
  push('comment', tail);
  return out;
}

function commentAt(text: string): number {
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const c = text[i] ?? '';
    if (quote) quote = c === quote ? '' : quote;
    else if (c === '"' || c === "'") quote = c;
    else if (c === '#' && (i === 0 || /\s/.test(text[i - 1] ?? ''))) return i;
  }
  return -1;
}
