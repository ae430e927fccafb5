// Checksums of numbers that name a person or an account. Each takes the bare digits and letters, separators removed.

const digitsOf = (text: string): number[] => Array.from(text, Number);

/** ISO/IEC 7812: payment cards. */
export function isLuhn(digits: string): boolean {
  let sum = 0;
  for (const [i, digit] of digitsOf(digits).reverse().entries()) {
    const doubled = i % 2 === 1 ? digit * 2 : digit;
    sum += doubled > 9 ? doubled - 9 : doubled;
  }
  return sum % 10 === 0;
}

/** Characters of an account number by country (registry of ISO 13616). */
const IBAN_LENGTHS: { readonly [country: string]: number } = Object.fromEntries(
  `AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 EG29 ES24 FI18 FO18 FR27 GB22
  GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27
  MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 XK20`
    .split(/\s+/)
    .map((entry) => [entry.slice(0, 2), Number(entry.slice(2))]),
);

/** ISO 13616: letters are 10..35, the first four characters go last, the number is 1 modulo 97. */
export function isIban(text: string): boolean {
  if (IBAN_LENGTHS[text.slice(0, 2)] !== text.length) return false;
  let rest = 0;
  for (const letter of text.slice(4) + text.slice(0, 4)) {
    const value = Number.parseInt(letter, 36);
    rest = (rest * (value > 9 ? 100 : 10) + value) % 97;
  }
  return rest === 1;
}

function isDate(year: number, month: number, day: number): boolean {
  const date = new Date(Date.UTC(year, month - 1, day));
  return date.getUTCFullYear() === year && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
}

const CHINA_WEIGHTS = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];

/** GB 11643-1999: resident identity number, 17 digits with a date of birth and a check character. */
export function isChinaResidentId(text: string): boolean {
  const year = Number(text.slice(6, 10));
  if (year < 1900 || year > 2100 || !isDate(year, Number(text.slice(10, 12)), Number(text.slice(12, 14)))) return false;
  const sum = CHINA_WEIGHTS.reduce((total, weight, i) => total + weight * Number(text[i]), 0);
  return '10X98765432'[sum % 11] === text[17]?.toUpperCase();
}

/** ISO 7064 MOD 11,10 and the rule on repeated digits: German tax number, 11 digits. */
export function isGermanTaxId(digits: string): boolean {
  const counts = new Map<string, number>();
  for (const digit of digits.slice(0, 10)) counts.set(digit, (counts.get(digit) ?? 0) + 1);
  const most = Math.max(...counts.values());
  if (digits[0] === '0' || most < 2 || most > 3) return false;
  let product = 10;
  for (const digit of digitsOf(digits.slice(0, 10))) {
    const sum = (digit + product) % 10 || 10;
    product = (sum * 2) % 11;
  }
  return (11 - product) % 10 === Number(digits[10]);
}

/** Spanish DNI and NIE: eight digits (X, Y, Z stand for 0, 1, 2) and a letter by modulo 23. */
export function isSpanishId(text: string): boolean {
  const number = Number(text.slice(0, -1).replace(/^[XYZ]/, (letter) => String('XYZ'.indexOf(letter))));
  return 'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23] === text.at(-1);
}

/** French NIR: 13 digits (2A and 2B stand for 19 and 18) and a key, 97 minus the number modulo 97. */
export function isFrenchNir(text: string): boolean {
  const body = text.slice(0, 13).replace('2A', '19').replace('2B', '18');
  let rest = 0;
  for (const digit of body) rest = (rest * 10 + Number(digit)) % 97;
  return 97 - rest === Number(text.slice(13));
}

/** Brazilian CPF: two check digits by modulo 11; eleven equal digits are none. */
export function isCpf(digits: string): boolean {
  if (/^(\d)\1{10}$/.test(digits)) return false;
  const check = (length: number): number => {
    const sum = digitsOf(digits.slice(0, length)).reduce((total, digit, i) => total + digit * (length + 1 - i), 0);
    return ((sum * 10) % 11) % 10;
  };
  return check(9) === Number(digits[9]) && check(10) === Number(digits[10]);
}

/** Dutch BSN: nine digits, weights 9 to 2 and -1, the sum is divisible by 11. */
export function isDutchBsn(digits: string): boolean {
  const sum = digitsOf(digits).reduce((total, digit, i) => total + digit * (i === 8 ? -1 : 9 - i), 0);
  return sum % 11 === 0 && Number(digits) > 0;
}

/** Polish PESEL: a date of birth (the century is in the month), a serial and a check digit. */
export function isPesel(digits: string): boolean {
  const month = Number(digits.slice(2, 4)) % 20;
  const day = Number(digits.slice(4, 6));
  if (month < 1 || month > 12 || day < 1 || day > 31) return false;
  const weights = [1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1];
  return digitsOf(digits).reduce((total, digit, i) => total + digit * (weights[i] as number), 0) % 10 === 0;
}

const ITALY_ODD = [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];

/** Italian codice fiscale: 15 letters and digits and a check letter. */
export function isItalianCode(text: string): boolean {
  let sum = 0;
  for (let i = 0; i < 15; i += 1) {
    const value = Number.parseInt(text[i] as string, 36);
    const rank = value > 9 ? value - 10 : value;
    sum += i % 2 === 0 ? (ITALY_ODD[rank] as number) : rank;
  }
  return text.charCodeAt(15) === 65 + (sum % 26);
}

/** United States social security number: no checksum, but areas, groups and serials that were never given. */
export function isSsn(digits: string): boolean {
  const [area, group, serial] = [digits.slice(0, 3), digits.slice(3, 5), digits.slice(5)];
  if (['123456789', '078051120', '219099999'].includes(digits)) return false; // printed in documentation
  return area !== '000' && area !== '666' && area < '900' && group !== '00' && serial !== '0000';
}

const asciiCounts = new Uint32Array(128);

/** Bits per character (UTF-16 unit). */
export function entropyBits(text: string): number {
  asciiCounts.fill(0);
  const others = new Map<number, number>();
  for (let i = 0; i < text.length; i += 1) {
    const unit = text.charCodeAt(i);
    if (unit < 128) asciiCounts[unit] = (asciiCounts[unit] as number) + 1;
    else others.set(unit, (others.get(unit) ?? 0) + 1);
  }
  const bitsOf = (count: number): number => (count === 0 ? 0 : (-count / text.length) * Math.log2(count / text.length));
  let bits = 0;
  for (let unit = 0; unit < 128; unit += 1) bits += bitsOf(asciiCounts[unit] as number);
  for (const count of others.values()) bits += bitsOf(count);
  return bits;
}
