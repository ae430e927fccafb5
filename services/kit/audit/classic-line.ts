// A request as one line: [TIMESTAMP] [CLIENT_IP] [USER_ID] [PROMPT] [RESPONSE_LENGTH] [LATENCY]. Whatever a prompt holds, a
// record is exactly one line of exactly six fields, harmless on a terminal, and reads back as it was.

export type ClassicFields = {
  /** RFC 3339. */
  timestamp: string;
  /** "" where it is not known: in records of an erased person, too. */
  clientIp: string;
  userId: string;
  /** Redacted, from the content store; "" where none is kept. */
  prompt: string;
  /** UTF-8 bytes; null when the request has not ended. */
  responseLength: number | null;
  /** Whole milliseconds; null when the request has not ended. */
  latencyMs: number | null;
};

const EMPTY = '-';
const NAMED: { readonly [sign: string]: string } = { '\n': '\\n', '\r': '\\r', '\t': '\\t' };
const NAMED_BACK: { readonly [letter: string]: string } = { n: '\n', r: '\r', t: '\t' };
/** The form's own marks, and what moves a cursor, ends a line or turns the direction of writing. */
const MARKS = /[\\[\]]|\p{Cc}|\p{Cf}|\p{Cs}|[\u2028\u2029]/gu;
const ESCAPED = /\\(?:u\{([0-9a-f]{1,6})\}|(.))/gu;
const FIELD = '\\[((?:[^\\\\[\\]]|\\\\.)*)\\]';
const LINE = new RegExp(`^${Array(6).fill(FIELD).join(' ')}\\n?$`, 'su');

function escaped(text: string): string {
  if (text === '') return EMPTY;
  if (text === EMPTY) return `\\${EMPTY}`;
  return text.replace(MARKS, (sign) => {
    if ('\\[]'.includes(sign)) return `\\${sign}`;
    return NAMED[sign] ?? `\\u{${(sign.codePointAt(0) as number).toString(16)}}`;
  });
}

function unescaped(field: string): string {
  if (field === EMPTY) return '';
  return field.replace(ESCAPED, (_, code: string | undefined, letter: string) =>
    code === undefined ? (NAMED_BACK[letter] ?? letter) : String.fromCodePoint(Number.parseInt(code, 16)),
  );
}

const numeral = (value: number | null): string => (value === null ? EMPTY : String(value));

/** The line, its end included. */
export function classicLine({ timestamp, clientIp, userId, prompt, responseLength, latencyMs }: ClassicFields): string {
  const texts = [timestamp, clientIp, userId, prompt].map(escaped);
  return `${[...texts, numeral(responseLength), numeral(latencyMs)].map((field) => `[${field}]`).join(' ')}\n`;
}

/** What a line says, or null: classicLine did not write it. */
export function parseClassicLine(line: string): ClassicFields | null {
  const fields = LINE.exec(line)?.slice(1);
  if (!fields) return null;
  const [timestamp = '', clientIp = '', userId = '', prompt = ''] = fields.slice(0, 4).map(unescaped);
  const numbers = fields.slice(4).map((field) => (field === EMPTY ? null : Number(field)));
  const [responseLength = null, latencyMs = null] = numbers;
  const read = { timestamp, clientIp, userId, prompt, responseLength, latencyMs };
  return classicLine(read).trimEnd() === line.replace(/\n$/, '') ? read : null;
}
