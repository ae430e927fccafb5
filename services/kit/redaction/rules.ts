// What is taken out of text before it is hashed or stored. Each rule is a pattern that runs in linear time (no nested or
// adjacent unbounded repetitions of one class) and, where the form alone says too little, a check of what it found.
import { isIP } from 'node:net';
import {
  entropyBits,
  isChinaResidentId,
  isCpf,
  isFrenchNir,
  isGermanTaxId,
  isIban,
  isLuhn,
  isSpanishId,
  isSsn,
} from './checksums.ts';

export type RedactionRule = {
  /** Counted and shown under this name. */
  readonly name: string;
  /** Global. A group named `secret`, where there is one, is what is taken out; else the whole match. */
  readonly pattern: RegExp;
  accepts?(found: string): boolean;
};

const bare = (text: string): string => text.replace(/[\s.\-/]/g, '');
/** Digits are not part of a longer number, a decimal or an identifier. */
const START = '(?<![\\w.+-])';
const END = '(?![\\w-]|\\.\\d)';
const number = (body: string): RegExp => new RegExp(`${START}${body}${END}`, 'g');

/** Prefixes that the providers publish so that scanners can find their keys. */
const CLOUD_KEYS = [
  '(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}', // Amazon
  'AIza[\\w-]{35}', // Google
  'ya29\\.[\\w-]{20,}',
  'gh[pousr]_[A-Za-z0-9]{36,}', // GitHub
  'github_pat_[A-Za-z0-9_]{40,}',
  'glpat-[\\w-]{20,}', // GitLab
  'xox[abeoprs]-[\\w-]{10,}', // Slack
  'sk_(?:live|test)_[A-Za-z0-9]{16,}', // Stripe
  'rk_(?:live|test)_[A-Za-z0-9]{16,}',
  'sk-(?:ant-|proj-|svcacct-)?[\\w-]{20,}', // OpenAI, Anthropic
  'hf_[A-Za-z0-9]{30,}', // Hugging Face
  'npm_[A-Za-z0-9]{36}',
  'pypi-[\\w-]{50,}',
  'SG\\.[\\w-]{16,}\\.[\\w-]{16,}', // SendGrid
  'AccountKey=[A-Za-z0-9+/]{40,}={0,2}', // Azure storage
  'qk_[\\w-]{20,}', // ours
] as const;

const SECRET_NAME =
  '(?:password|passwd|pwd|secret|token|api[_-]?key|apikey|access[_-]?key|private[_-]?key|credentials?)';

/** A value that is no secret: a name in code, a placeholder, a call. */
function isLiteralSecret(value: string): boolean {
  if (
    /^(?:none|null|true|false|undefined|string|str|x+|\*+|\.+|changeme|example|your[_-].*|<.*|\$.*|%.*|\{.*)$/i.test(
      value,
    )
  )
    return false;
  return entropyBits(value) >= 2;
}

function isRandomText(text: string): boolean {
  if (!/[a-z]/.test(text) || !/[A-Z]/.test(text) || !/\d/.test(text)) return false;
  const digits = text.replace(/\D/g, '').length;
  return digits >= 3 && entropyBits(text) >= 4.2;
}

function isPublicOrPrivateIp(text: string): boolean {
  return isIP(text) !== 0 && !/^(?:0\.|127\.|255\.|::1?$)/.test(text);
}

/** In this order: what an earlier rule took out, a later one does not see. */
export const REDACTION_RULES: readonly RedactionRule[] = [
  {
    name: 'pem',
    pattern: /-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*(?:-----END [A-Z ]*PRIVATE KEY-----)?/g,
  },
  { name: 'jwt', pattern: /\beyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}/g },
  { name: 'cloud_key', pattern: new RegExp(`(?<![\\w-])(?:${CLOUD_KEYS.join('|')})`, 'g') },
  { name: 'url_password', pattern: /\b[a-z][a-z0-9+.-]{1,20}:\/\/[^\s:/@"']{0,64}:(?<secret>[^\s/@"']{1,128})@/gi },
  { name: 'bearer', pattern: /\bBearer +(?<secret>[\w.~+/-]{16,}=*)/g },
  {
    name: 'secret_value',
    pattern: new RegExp(`${SECRET_NAME}["']?\\s{0,4}(?::|=>?)\\s{0,4}(["'\`])(?<secret>[^"'\`\\s]{6,256})\\1`, 'gi'),
    accepts: isLiteralSecret,
  },
  {
    name: 'secret_value',
    pattern: new RegExp(
      `^(?:export )?[A-Z0-9_]{0,64}${SECRET_NAME.toUpperCase()}[A-Z0-9_]{0,32}=(?<secret>[^\\s"'$]{6,256})$`,
      'gm',
    ),
    accepts: isLiteralSecret,
  },
  {
    name: 'email',
    pattern:
      /(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){0,4}\.[A-Za-z]{2,24}\b/g,
  },
  {
    name: 'iban',
    pattern: /(?<!\w)[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?(?!\w)/g,
    accepts: (found) => isIban(bare(found)),
  },
  { name: 'china_id', pattern: number('[1-9]\\d{16}[\\dXx]'), accepts: isChinaResidentId },
  {
    name: 'french_nir',
    pattern: number('[12] ?\\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\\d) ?(?:\\d{2}|2[AB]) ?\\d{3} ?\\d{3} ?\\d{2}'),
    accepts: (found) => isFrenchNir(bare(found)),
  },
  {
    name: 'card',
    pattern: number('(?:[2-6]\\d{3}(?:[ -]?\\d{4}){2}[ -]?\\d{1,7}|3[47]\\d{2}[ -]?\\d{6}[ -]?\\d{5})'),
    accepts: (found) => bare(found).length >= 13 && isLuhn(bare(found)),
  },
  { name: 'cpf', pattern: number('\\d{3}\\.\\d{3}\\.\\d{3}-\\d{2}'), accepts: (found) => isCpf(bare(found)) },
  {
    name: 'spanish_id',
    pattern: number('(?:\\d{8}|[XYZ]-?\\d{7})-?[A-HJ-NP-TV-Z]'),
    accepts: (found) => isSpanishId(bare(found)),
  },
  { name: 'ssn', pattern: number('\\d{3}-\\d{2}-\\d{4}'), accepts: (found) => isSsn(bare(found)) },
  {
    name: 'german_tax_id',
    pattern: number('[1-9]\\d ?\\d{3} ?\\d{3} ?\\d{3}'),
    accepts: (found) => isGermanTaxId(bare(found)),
  },
  {
    name: 'phone',
    pattern: /(?<![\w.+-])(?:\+|00)[1-9]\d{0,2}(?:[ .-]?\(?\d{1,5}\)?){2,5}(?![\w-]|\.\d)/g,
    accepts: (found) => /^\d{8,15}$/.test(found.replace(/\D/g, '').replace(/^00/, '')),
  },
  { name: 'phone', pattern: number('1[3-9]\\d(?:\\d{8}|[ -]\\d{4}[ -]\\d{4})') }, // China, mobile
  { name: 'phone', pattern: number('0(?:10|2\\d|[3-9]\\d{2})-[1-9]\\d{6,7}') }, // China, fixed line
  { name: 'phone', pattern: /(?<![\w.+-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?![\w-]|\.\d)/g }, // North America
  { name: 'phone', pattern: number('0[1-9](?:[ .]\\d{2}){4}') }, // France
  { name: 'phone', pattern: number('0[1-9]\\d{1,4}[ /]\\d{3,4}[ ]?\\d{3,5}') }, // Germany, Great Britain
  { name: 'ip', pattern: /(?<![\w.:-])\d{1,3}(?:\.\d{1,3}){3}(?![\w-]|\.\d)/g, accepts: isPublicOrPrivateIp },
  {
    name: 'ip',
    pattern: /(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:.])/g,
    accepts: isPublicOrPrivateIp,
  },
  { name: 'entropy', pattern: /(?<![\w/+-])[A-Za-z0-9+/_-]{24,256}={0,2}(?![\w/+=-])/g, accepts: isRandomText },
];
