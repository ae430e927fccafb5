// What is taken out of text before it is hashed or stored. Each rule is a pattern that runs in linear time (no nested or
// adjacent unbounded repetitions of one class) and, where the form alone says too little, a check of what it found.
import {
  isChinaResidentId,
  isCpf,
  isDutchBsn,
  isFrenchNir,
  isGermanTaxId,
  isIban,
  isItalianCode,
  isPesel,
  isSpanishId,
  isSsn,
} from './checksums.ts';
import {
  type Around,
  bare,
  isAddress,
  isCard,
  isCounted,
  isFictional,
  isMailAddress,
  isRandomText,
} from './plausible.ts';
import { secretRules } from './secret-rules.ts';

export type RedactionForm = {
  /** Sticky, with a group named `secret`. */
  readonly pattern: RegExp;
  accepts(found: string): boolean;
};

export type RedactionRule = {
  /** Counted and shown under this name. */
  readonly name: string;
  /** Global. A group named `secret`, where there is one, is what is taken out; else the whole match. */
  readonly pattern: RegExp;
  accepts?(found: string, around: Around): boolean;
  /** Where given, `pattern` finds only the name of a value, and the first form that fits right behind it finds the value. */
  readonly forms?: readonly RedactionForm[];
};

/** Digits are not part of a longer number, a decimal or an identifier. */
const START = '(?<![\\w.+-])';
const END = '(?![\\w-]|\\.\\d)';
const number = (body: string): RegExp => new RegExp(`${START}${body}${END}`, 'g');
const after = (names: RegExp, { before }: Around): boolean => names.test(before);

const numberRules: readonly RedactionRule[] = [
  {
    name: 'iban',
    pattern: /(?<!\w)[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]{4}){2,7}(?: ?[A-Za-z0-9]{1,4})?(?!\w)/g,
    accepts: (found) => isIban(bare(found).toUpperCase()),
  },
  { name: 'china_id', pattern: number('[1-9]\\d{16}[\\dXx]'), accepts: isChinaResidentId },
  {
    name: 'french_nir',
    pattern: number('[12] ?\\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\\d) ?(?:\\d{2}|2[AB]) ?\\d{3} ?\\d{3} ?\\d{2}'),
    accepts: (found) => isFrenchNir(bare(found)),
  },
  {
    name: 'card',
    pattern: number('(?:[2-6]\\d{3}(?:[ -]?\\d{4}){2}[ -]?\\d{1,7}|3\\d{3}[ -]?\\d{6}[ -]?\\d{4,5})'),
    accepts: isCard,
  },
  { name: 'card', pattern: number('[4-6]\\d{3}(?:[ -]\\d{4}){3}[ -]\\d{1,3}'), accepts: isCard }, // 17 to 19 digits
  {
    name: 'cpf',
    pattern: number('(?:\\d{3}\\.\\d{3}\\.\\d{3}-\\d{2}|\\d{11})'),
    accepts: (found, around) => isCpf(bare(found)) && (found.includes('.') || after(/cpf/i, around)),
  },
  {
    name: 'spanish_id',
    pattern: number('(?:\\d{8}|[XYZ]-?\\d{7})-?[A-HJ-NP-TV-Z]'),
    accepts: (found) => isSpanishId(bare(found)),
  },
  { name: 'italian_code', pattern: number('[A-Z]{6}\\d{2}[A-EHLMPRST]\\d{2}[A-Z]\\d{3}[A-Z]'), accepts: isItalianCode },
  {
    name: 'ssn',
    pattern: number('(?:\\d{3}-\\d{2}-\\d{4}|\\d{3} \\d{2} \\d{4}|\\d{9})'),
    accepts: (found, around) => isSsn(bare(found)) && (found.includes('-') || after(/ssn|social.?security/i, around)),
  },
  {
    name: 'german_tax_id',
    pattern: number('[1-9]\\d ?\\d{3} ?\\d{3} ?\\d{3}'),
    accepts: (found, around) =>
      isGermanTaxId(bare(found)) && (found.includes(' ') || after(/steuer|id.?nr|tax|\btin\b|idnr/i, around)),
  },
  {
    name: 'dutch_bsn',
    pattern: number('\\d{9}'),
    accepts: (found, around) => isDutchBsn(found) && after(/bsn|burger.?service|sofi/i, around),
  },
  {
    name: 'pesel',
    pattern: number('\\d{11}'),
    accepts: (found, around) => isPesel(found) && after(/pesel/i, around),
  },
];

const isForeign = (found: string): boolean =>
  /^\d{8,15}$/.test(found.replace(/\D/g, '').replace(/^00/, '')) && !isFictional(found);
const isDomestic = (found: string): boolean =>
  /^\d{9,12}$/.test(found.replace(/\D/g, '')) && !/^\d{5}-\d{4}$/.test(found); // ZIP+4

const phoneRules: readonly RedactionRule[] = [
  {
    name: 'phone',
    pattern: /(?<![\w.+-])(?:\+|00)[1-9]\d{0,2}(?:[ .-]?\(?\d{1,5}\)?){2,5}(?!(?!x\d)[\w-]|\.\d)/g,
    accepts: isForeign,
  },
  {
    name: 'phone', // China, mobile
    pattern: number('1[3-9]\\d(?:\\d{8}|[ -]\\d{4}[ -]\\d{4})'),
    accepts: (_, around) => !isCounted(around),
  },
  { name: 'phone', pattern: number('0(?:10|2\\d|[3-9]\\d{2})-[1-9]\\d{6,7}') }, // China, fixed line
  {
    name: 'phone', // North America
    pattern: /(?<![\w.+-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[ .-])[2-9]\d{2}[ .-]\d{4}(?!(?!x\d)[\w-]|\.\d)/g,
    accepts: (found) => !isFictional(found),
  },
  { name: 'phone', pattern: number('0[1-9](?:[ .]\\d{2}){4}') }, // France
  { name: 'phone', pattern: number('0[1-9]\\d{1,4}(?: ?/ ?| |-)\\d{3,8}(?:[ -]\\d{2,5})?'), accepts: isDomestic }, // Germany, Great Britain
];

const LETTER = '\\p{Script=Latin}\\p{Script=Cyrillic}\\d';
const MAIL = new RegExp(
  `(?<![\\w.+-])[A-Za-z0-9][\\w.+-]{0,63}@[${LETTER}][${LETTER}-]{0,62}(?:\\.[${LETTER}-]{1,63}){0,4}\\.\\p{L}{2,24}(?![A-Za-z0-9])`,
  'gu',
);

const contactRules: readonly RedactionRule[] = [
  {
    name: 'email',
    pattern: MAIL,
    accepts: isMailAddress,
  },
  {
    name: 'ip',
    pattern: /(?<![\w.]|[A-Za-z_]-)\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d|-[A-Za-z])/g,
    accepts: isAddress,
  },
  {
    name: 'ip',
    pattern: /(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:(?<=:)\d{1,3}(?:\.\d{1,3}){3})?(?![\w:]|\.\d)/g,
    accepts: isAddress,
  },
];

/** What several rules find has the name of the one that comes first. */
export const REDACTION_RULES: readonly RedactionRule[] = [
  ...secretRules,
  ...contactRules,
  ...numberRules,
  ...phoneRules,
  { name: 'entropy', pattern: /(?<![\w/+-])[A-Za-z0-9+/_-]{24,256}={0,2}(?![\w/+=-])/g, accepts: isRandomText },
];

/** Text that is public by its form; the entropy rule alone does not look into it. */
export const PUBLIC_TEXT = new RegExp(
  [
    '-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}(?:CERTIFICATE|REQUEST|PUBLIC KEY(?: BLOCK)?|SIGNATURE|MESSAGE)-----' +
      '(?:[^-]|-(?!----)){0,20000}',
    '\\bdata:[\\w/+.-]{1,60};base64,[A-Za-z0-9+/=]+',
  ].join('|'),
  'g',
);
