// GPT-2's byte alphabet: vocabularies of byte-level BPE write each byte as one printable character
// (openai/gpt-2 encoder.py, bytes_to_unicode): printable Latin-1 stays itself, the other 68 bytes become U+0100...

/** Character code of each byte: Uint16Array[256]. */
export const CODE_OF_BYTE: Uint16Array = (() => {
  const codes = new Uint16Array(256);
  let next = 256;
  for (let byte = 0; byte < 256; byte += 1) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    codes[byte] = printable ? byte : next++;
  }
  return codes;
})();

/** Byte of each character code of the alphabet, -1 for other codes: Int16Array[512]. */
const BYTE_OF_CODE: Int16Array = (() => {
  const bytes = new Int16Array(512).fill(-1);
  for (let byte = 0; byte < 256; byte += 1) bytes[CODE_OF_BYTE[byte]!] = byte;
  return bytes;
})();

/** What a vocabulary entry writes, or null when it holds a character outside the alphabet. */
export function bytesOfPiece(piece: string): Uint8Array | null {
  const bytes = new Uint8Array(piece.length);
  for (let i = 0; i < piece.length; i += 1) {
    const code = piece.charCodeAt(i);
    const byte = code < 512 ? BYTE_OF_CODE[code]! : -1;
    if (byte < 0) return null;
    bytes[i] = byte;
  }
  return bytes;
}

/** bytes[start..end) in the alphabet. */
export function pieceOfBytes(bytes: Uint8Array, start: number, end: number): string {
  let piece = '';
  for (let i = start; i < end; i += 1) piece += String.fromCharCode(CODE_OF_BYTE[bytes[i]!]!);
  return piece;
}
