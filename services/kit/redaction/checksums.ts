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

/** ISO 13616: letters are 10..35, the first four characters go last, the number is 1 modulo 97. */
export function isIban(text: string): boolean {
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

/** United States social security number: no checksum, but areas, groups and serials that were never given. */
export function isSsn(digits: string): boolean {
  const [area, group, serial] = [digits.slice(0, 3), digits.slice(3, 5), digits.slice(5)];
  return area !== '000' && area !== '666' && area < '900' && group !== '00' && serial !== '0000';
}

/** Bits per character. */
export function entropyBits(text: string): number {
  const counts = new Map<string, number>();
  for (const character of text) counts.set(character, (counts.get(character) ?? 0) + 1);
  let bits = 0;
  for (const count of counts.values()) bits -= (count / text.length) * Math.log2(count / text.length);
  return bits;
}
