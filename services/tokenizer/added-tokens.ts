// Finding the literals of added tokens in text, leftmost first and the longest of those that begin at one place,
// as the library's DictionarySplitter does. What lies between literals is text.

export type AddedToken = {
  readonly id: number;
  readonly content: string;
  /** Blanks before (after) the literal belong to it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** Looked for in normalized text. */
  readonly normalized: boolean;
  readonly special: boolean;
};

/** A piece of a split text: an added token, or text between two of them. */
export type Section = { readonly text: string; readonly token: AddedToken | null };

export type AddedTokenSplitter = {
  /** Sections in order; their texts make up `text`, but for blanks that a token took. Empty sections are left out. */
  split(text: string): Section[];
  /** All literals in `text` with where they begin. */
  find(text: string): { at: number; token: AddedToken }[];
  readonly isEmpty: boolean;
};

/** `literal` as a pattern that matches exactly it. */
export function escapePattern(literal: string): string {
  return literal.replace(/[.*+?^${}()|[\]\\/-]/g, '\\$&');
}

/** Splits at the literals of `tokens`; `literalOf` gives the literal (its normalized form, for text that is normalized). */
export function createAddedTokenSplitter(
  tokens: readonly AddedToken[],
  literalOf: (token: AddedToken) => string = (token) => token.content,
): AddedTokenSplitter {
  const byLiteral = new Map<string, AddedToken>();
  for (const token of tokens) byLiteral.set(literalOf(token), token);
  byLiteral.delete('');
  // The first alternative that matches wins, so longest first is longest match.
  const literals = [...byLiteral.keys()].sort((a, b) => b.length - a.length);
  const pattern = literals.length === 0 ? null : new RegExp(literals.map(escapePattern).join('|'), 'g');

  function find(text: string): { at: number; token: AddedToken }[] {
    if (!pattern) return [];
    const found: { at: number; token: AddedToken }[] = [];
    pattern.lastIndex = 0;
    for (let match = pattern.exec(text); match; match = pattern.exec(text)) {
      found.push({ at: match.index, token: byLiteral.get(match[0])! });
    }
    return found;
  }

  function split(text: string): Section[] {
    const found = find(text);
    if (found.length === 0) return text.length === 0 ? [] : [{ text, token: null }];
    const sections: Section[] = [];
    let from = 0;
    let strip = false;
    for (const { at, token } of found) {
      let between = text.slice(from, at);
      if (strip) between = between.trimStart();
      if (token.lstrip) between = between.trimEnd();
      if (between.length > 0) sections.push({ text: between, token: null });
      const end = at + literalOf(token).length;
      sections.push({ text: text.slice(at, end), token });
      strip = token.rstrip;
      from = end;
    }
    const rest = strip ? text.slice(from).trimStart() : text.slice(from);
    if (rest.length > 0) sections.push({ text: rest, token: null });
    return sections;
  }

  return { split, find, isEmpty: pattern === null };
}
