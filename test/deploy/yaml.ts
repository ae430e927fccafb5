// Reads the YAML that deploy/ is written in: block mappings and sequences, flow lists and mappings, plain and quoted scalars,
// literal (|) and folded (>-) blocks, comments. Anything else, duplicate keys and tabs are errors: what this reader refuses
// would surprise a person too. Anchors and tags are not read.

export type Yaml = string | number | boolean | null | Yaml[] | { [key: string]: Yaml };

type Line = { indent: number; text: string; number: number };

class Reader {
  readonly #lines: Line[];
  readonly #raw: string[];
  #at = 0;

  constructor(text: string) {
    this.#raw = text.split('\n');
    this.#lines = this.#raw.flatMap((line, i) => {
      if (line.includes('\t')) throw new Error(`line ${i + 1}: a tab`);
      const bare = withoutComment(line).trimEnd();
      return bare.trim() === '' ? [] : [{ indent: bare.search(/\S/), text: bare.trim(), number: i + 1 }];
    });
  }

  document(): Yaml {
    const value = this.#block(0);
    const rest = this.#lines[this.#at];
    if (rest) throw new Error(`line ${rest.number}: "${rest.text}" is not indented as what is before it`);
    return value;
  }

  #block(indent: number): Yaml {
    const line = this.#lines[this.#at];
    if (!line || line.indent < indent) return null;
    if (line.text === '-' || line.text.startsWith('- ')) return this.#sequence(line.indent);
    return keyOf(line.text) ? this.#mapping(line.indent) : this.#scalarLine();
  }

  #scalarLine(): Yaml {
    const line = this.#lines[this.#at++] as Line;
    return scalar(line.text, line.number);
  }

  #sequence(indent: number): Yaml[] {
    const items: Yaml[] = [];
    for (let line = this.#lines[this.#at]; line?.indent === indent; line = this.#lines[this.#at]) {
      if (!/^-( |$)/.test(line.text)) break;
      const rest = line.text.slice(1).trimStart();
      if (rest === '') {
        this.#at += 1;
        items.push(this.#block(indent + 1));
      } else {
        // The item's own first line, as if it stood alone.
        this.#lines[this.#at] = { ...line, indent: indent + line.text.length - rest.length, text: rest };
        items.push(this.#block(indent + 1));
      }
    }
    return items;
  }

  #mapping(indent: number): { [key: string]: Yaml } {
    const map: { [key: string]: Yaml } = {};
    for (let line = this.#lines[this.#at]; line?.indent === indent; line = this.#lines[this.#at]) {
      const found = keyOf(line.text);
      if (!found) throw new Error(`line ${line.number}: expected "key: value", got "${line.text}"`);
      const { key, rest } = found;
      if (Object.hasOwn(map, key)) throw new Error(`line ${line.number}: "${key}" stands there twice`);
      this.#at += 1;
      map[key] = this.#value(rest, line);
    }
    const next = this.#lines[this.#at];
    if (next && next.indent > indent) throw new Error(`line ${next.number}: "${next.text}" is indented too far`);
    return map;
  }

  #value(rest: string, line: Line): Yaml {
    if (/^[|>][-+]?$/.test(rest)) return this.#text(rest, line);
    if (rest !== '') return scalar(rest, line.number);
    const next = this.#lines[this.#at];
    const isList = next?.indent === line.indent && /^-( |$)/.test(next.text);
    return isList ? this.#sequence(line.indent) : this.#block(line.indent + 1);
  }

  /** A block of text: everything deeper than its key, comments and empty lines included. */
  #text(style: string, line: Line): string {
    let end = line.number;
    while (end < this.#raw.length && (this.#raw[end]!.trim() === '' || this.#raw[end]!.search(/\S/) > line.indent))
      end += 1;
    while (this.#lines[this.#at] && this.#lines[this.#at]!.number <= end) this.#at += 1;
    const raw = this.#raw.slice(line.number, end);
    const indent = Math.min(...raw.filter((one) => one.trim() !== '').map((one) => one.search(/\S/)));
    const lines = raw.map((one) => one.slice(indent));
    const text = lines.join(style.startsWith('|') ? '\n' : ' ').trimEnd();
    return style.endsWith('-') ? text : `${text}\n`;
  }
}

/** A comment begins at a line's start or behind a blank, outside quotes. */
function withoutComment(line: string): string {
  let quote = '';
  for (let i = 0; i < line.length; i += 1) {
    const char = line[i] as string;
    if (quote) quote = char === quote ? '' : quote;
    else if ((char === '"' || char === "'") && (i === 0 || /[\s[{,:]/.test(line[i - 1] as string))) quote = char;
    else if (char === '#' && (i === 0 || line[i - 1] === ' ')) return line.slice(0, i);
  }
  return line;
}

function keyOf(text: string): { key: string; rest: string } | null {
  const match = /^("[^"]*"|'[^']*'|[^\s"'[\]{}&*!|>%@#,][^:#]*?):(?:\s+(.*))?$/.exec(text);
  if (!match) return null;
  const key = match[1] as string;
  return { key: /^["']/.test(key) ? key.slice(1, -1) : key, rest: match[2] ?? '' };
}

function scalar(text: string, line: number): Yaml {
  const { value, rest } = flow(text, line);
  if (rest.trim() !== '') throw new Error(`line ${line}: "${rest}" behind a value`);
  return value;
}

function flow(text: string, line: number, inside = false): { value: Yaml; rest: string } {
  const start = text.trimStart();
  if (start.startsWith('[')) return flowItems(start, line);
  if (start.startsWith('{')) return flowPairs(start, line);
  const quoted = /^"((?:[^"\\]|\\.)*)"|^'((?:[^']|'')*)'/.exec(start);
  if (quoted) {
    const value = quoted[1] !== undefined ? (JSON.parse(`"${quoted[1]}"`) as string) : quoted[2]!.replaceAll("''", "'");
    return { value, rest: start.slice(quoted[0].length) };
  }
  if (/^[&*!%@`]/.test(start)) throw new Error(`line ${line}: anchors, tags and the like are not read: "${start}"`);
  const end = inside ? start.search(/[,\]}]/) : start.length;
  const plain = start.slice(0, end === -1 ? start.length : end).trim();
  return { value: plainValue(plain), rest: start.slice(end === -1 ? start.length : end) };
}

function flowItems(text: string, line: number): { value: Yaml; rest: string } {
  const items: Yaml[] = [];
  let rest = text.slice(1).trimStart();
  while (!rest.startsWith(']')) {
    if (rest === '') throw new Error(`line ${line}: a list without its "]"`);
    const item = flow(rest, line, true);
    items.push(item.value);
    rest = item.rest.trimStart().replace(/^,\s*/, '');
  }
  return { value: items, rest: rest.slice(1) };
}

function flowPairs(text: string, line: number): { value: Yaml; rest: string } {
  const map: { [key: string]: Yaml } = {};
  let rest = text.slice(1).trimStart();
  while (!rest.startsWith('}')) {
    const key = /^([A-Za-z0-9_.-]+):\s+/.exec(rest);
    if (!key) throw new Error(`line ${line}: expected "key: value" inside {}, got "${rest}"`);
    const item = flow(rest.slice(key[0].length), line, true);
    map[key[1] as string] = item.value;
    rest = item.rest.trimStart().replace(/^,\s*/, '');
  }
  return { value: map, rest: rest.slice(1) };
}

function plainValue(text: string): Yaml {
  if (text === '' || text === '~' || text === 'null') return null;
  if (text === 'true' || text === 'false') return text === 'true';
  return /^-?\d+(\.\d+)?(e[+-]?\d+)?$/.test(text) ? Number(text) : text;
}

/** Throws an Error that names the line. */
export function readYaml(text: string): Yaml {
  return new Reader(text).document();
}
