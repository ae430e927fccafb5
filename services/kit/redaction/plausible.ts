// Checks of what a pattern found, where the form alone says too little: what stands around it, and whether it is a value at all.
import { isIP } from 'node:net';
import { entropyBits, isLuhn } from './checksums.ts';

/** The text right before and after what was found; a few dozen characters. */
export type Around = { before: string; after: string };

export const bare = (text: string): string => text.replace(/[\s.\-/]/g, '');

const PLACEHOLDERS = new RegExp(
  `^(?:${[
    'none|null|nil|true|false|undefined|string|str|text|hidden|redacted|to-?do|dummy.*|placeholder.*',
    'x+|\\*+|\\.+|-+',
    'change[_-]?(?:me|this|it)\\d?|(?:my|your|the|some|new|old)[_-].*|your.*',
    'pass(?:word|wd|phrase)?|pwd|pw|secret|token|user|admin|key',
    '<.*|\\$.*|%\\w+%?|\\{.*|\\[.*|#\\{.*|@\\w+@',
  ].join('|')})$`,
  'is',
);
const FILLED = /\$\{|example|x{6,}|\*{3,}|\.{3}$/i;

/** Stands where a value will be put, or refers to one. */
export function isPlaceholder(text: string): boolean {
  return FILLED.test(text) || PLACEHOLDERS.test(text);
}

const countOf = (text: string, sign: RegExp): number => text.match(sign)?.length ?? 0;

/** A name or path in code, and no value: `config.password`, `password_hash`, `/run/secrets/db`. */
function isReference(text: string): boolean {
  if (/^(?:\.{0,2}\/|~\/|arn:|file:|https?:\/\/|env:|vault:|kv\/)/.test(text)) return true;
  if (!/^[!&*-]?[\p{L}_$@][\p{L}\p{N}_$-]*(?:(?:\.|->|::|\?\.|\/)(?:[\p{L}_$][\p{L}\p{N}_$-]*|\*))*$/u.test(text))
    return false;
  if (/^(?:[A-Za-z]+_[A-Za-z_]*|[A-Za-z]*[a-z][A-Z][A-Za-z]*)[vV]?\d$/.test(text) && !isMixed(text)) return true; // apiKeyV2
  if (/[.>:/]/.test(text)) return !(/[a-z]/.test(text) && /[A-Z]/.test(text) && countOf(text, /\d/g) >= 2);
  return countOf(text, /\d/g) === 0 && !isMixed(text);
}

/** Letters of both cases in no order that a name would have. */
function isMixed(text: string): boolean {
  return text.length >= 16 && countOf(text, /[a-z][A-Z]/g) >= Math.max(4, text.length / 6) && entropyBits(text) >= 3.5;
}

/** A password, token or key written out. */
export function isLiteralSecret(text: string): boolean {
  if (text.length < 6 || isPlaceholder(text) || isReference(text) || /^[\d.,:_-]+$/.test(text)) return false;
  if (/^\p{L}+$/u.test(text)) return isMixed(text);
  return entropyBits(text.slice(0, 64)) >= 2;
}

/** Letters and digits in one word, as prose has them only where a value is quoted. */
export function isRandomWord(text: string): boolean {
  return text.length >= 7 && /\p{L}/u.test(text) && countOf(text, /\d/g) >= 2 && isLiteralSecret(text);
}

/** A word that somebody made up, words away from where it was named: no RFC8037, no v1.22.3. */
export function isChosenWord(text: string): boolean {
  return isRandomWord(text) && /[a-z]/.test(text) && /[A-Z]/.test(text) && !/[.-]\d|\d[.-]/.test(text);
}

/** Digits only, too: a person's PIN-like password. */
export function isPassword(text: string): boolean {
  return isLiteralSecret(text) || /^\d{4,16}$/.test(text);
}

/** Base64 of `user:password`. */
export function isBasicCredential(text: string): boolean {
  return /^[\x20-\x7e]{1,128}:[\x20-\x7e]{1,256}$/.test(Buffer.from(text, 'base64').toString('latin1'));
}

export function isProviderKey(text: string): boolean {
  return !/EXAMPLE|x{8}|X{8}|\.\.\./.test(text) && entropyBits(text.slice(0, 64)) >= 2.5;
}

/** Base64 of well-known files, certificates and public keys begins with these. */
const PUBLIC_STARTS = new RegExp(
  `^(?:${[
    'iVBORw0KGgo|/9j/|R0lGOD|UklGR|PHN2Zy|PD94bWw', // pictures
    'AGFzbQ|UEsDB|H4sI|JVBERi|d09G|T2dn|SUQz', // programs, archives, documents, fonts, sound
    'MII|AAAA[BCE]3NzaC1|AAAAE2VjZHNh|sha\\d', // certificates, public keys, digests
  ].join('|')})`,
);

export function isRandomText(text: string, { before }: Around): boolean {
  if (!/[a-z]/.test(text) || !/[A-Z]/.test(text) || countOf(text, /\d/g) < 3 || entropyBits(text) < 4.2) return false;
  if (
    PUBLIC_STARTS.test(text) ||
    /(?:sha\d{1,3}[-:]|\bh1:|base64,|integrity\W{0,4}|checksum\W{0,4}|digest\W{0,4})$/i.test(before)
  )
    return false;
  const parts = text.split(/[/_-]/); // paths and long names are made of words
  return !parts.every((part) => part.length < 16);
}

const VERSION_BEFORE = new RegExp(
  [
    '(?:version|release|build|section|clause|chapter|sec\\.|oid|§|\\bver|\\brev)["\'\\s:=(]{0,4}$',
    '(?:^|[^\\w.])(?!ip\\.|src|dst|host|addr)[a-z][\\w-]*(?:\\[[\\w,]+\\])?[=~<>!]=\\s?$', // name==version
    '[A-Za-z]/$', // product/version
  ].join('|'),
  'i',
);

/** Also false for loopback, wildcard and mask addresses and the ranges that RFC 5737 and RFC 3849 keep for documentation. */
export function isAddress(text: string, { before }: Around): boolean {
  const version = isIP(text);
  if (version === 0 || VERSION_BEFORE.test(before)) return false;
  if (version === 4)
    return !/^(?:0\.|127\.|255\.|192\.0\.2\.|198\.51\.100\.|203\.0\.113\.|169\.254\.169\.254$)/.test(text);
  if (/^(?:2001:0?db8:|::1?$)/i.test(text)) return false;
  const groups = text.split(':').filter((group) => group !== '');
  if (groups.at(-1)?.includes('.')) return isAddress(groups.at(-1) as string, { before: '', after: '' });
  return groups.length >= 2 && (groups[0] as string).length >= 3 && /\d/.test(text); // slices and namespaces look alike
}

/** Suffixes in use by many, besides the two letters of countries. The full list holds words that code has after a dot. */
const SUFFIXES = new Set(
  `com net org edu gov mil int info biz name pro mobi asia jobs tel coop aero museum cat eu dev app cloud online shop site tech
  xyz store email blog live page team work zone space website digital agency studio systems solutions network company group
  academy software services consulting media design world today news club fun wiki bank health law legal tax finance engineering
  berlin hamburg koeln bayern wien swiss paris london amsterdam brussels madrid tokyo nyc africa lat internal local lan corp
  intranet home`.split(/\s+/),
);

/** False for domains that RFC 2606 keeps for documentation, and for what code and file names write with an at sign. */
export function isMailAddress(text: string, { before, after }: Around): boolean {
  const domain = text.slice(text.indexOf('@') + 1).toLowerCase();
  const suffix = domain.slice(domain.lastIndexOf('.') + 1);
  if (/(?:^|\.)example\.(?:com|org|net|edu)$|\.(?:example|test|invalid|localhost)$/.test(domain)) return false;
  if (text.startsWith('git@') && (after.startsWith(':') || before.endsWith('ssh://'))) return false;
  if (/:\/\/[^\s/]*$/.test(before)) return false; // a URL's user and host
  if (after.startsWith('(') || /^[23]x\./.test(domain)) return false;
  return SUFFIXES.has(suffix) || /[^a-z]/.test(suffix) || (suffix.length === 2 && !isFileSuffix(suffix, domain));
}

const isFileSuffix = (suffix: string, domain: string): boolean =>
  /^(?:js|ts|py|rs|go|cc|hh|md|sh|so|gz|rb|cs|kt|vb|ml)$/.test(suffix) && /^(?:\d+x|self|this)\./.test(domain);

/** What a number counts, where it is no telephone. */
const COUNTED_BEFORE = new RegExp(
  `(?:${[
    'bytes?|size|count|offset|length|total|free|used|rows?|threshold|limit|max|min',
    'seed|nonce|order|hash|crc|ns|us|ms|time|stamp|_id|\\bid',
  ].join('|')})["']?\\s{0,2}[:=]?\\s{0,2}["']?$`,
  'i',
);
const COUNTED_AFTER = /^\s?(?:bytes?|[KMG]i?B|B|rows?|ms|ns|us|n)\b/;

export function isCounted({ before, after }: Around): boolean {
  return COUNTED_BEFORE.test(before) || COUNTED_AFTER.test(after);
}

/** 555-01xx is kept for fiction. */
export const isFictional = (text: string): boolean => /55501\d\d$/.test(text.replace(/\D/g, ''));

const CARD_FORMS = new RegExp(
  `^(?:${[
    '4(?:\\d{12}|\\d{15}|\\d{18})', // Visa
    '5[1-5]\\d{14}|2(?:22[1-9]|2[3-9]\\d|[3-6]\\d\\d|7[01]\\d|720)\\d{12}', // Mastercard
    '3[47]\\d{13}', // American Express
    '6(?:011|4[4-9]\\d|5\\d\\d)\\d{12}|3(?:0[0-5]|[689]\\d)\\d{11}', // Discover, Diners Club
    '35(?:2[89]|[3-8]\\d)\\d{12}|62\\d{14,17}', // JCB, UnionPay
    '(?:5018|5020|5038|5893|6304|6759|676[1-3])\\d{8,15}', // Maestro
  ].join('|')})$`,
);

/** Lengths and first digits that the networks of payment cards give out (ISO/IEC 7812), and the check digit. */
export function isCard(text: string): boolean {
  const digits = bare(text);
  return CARD_FORMS.test(digits) && isLuhn(digits) && !/^(\d)\1+$/.test(digits);
}
