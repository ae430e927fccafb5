/** Two FNV-1a hashes over UTF-16 units at once, readable at every step. */
export class TextHash {
  #a = 0x811c9dc5;
  #b = 0x9dc5811c;

  add(text: string, from = 0, to = text.length): this {
    for (let i = from; i < to; i++) {
      const unit = text.charCodeAt(i);
      this.#a = Math.imul(this.#a ^ unit, 0x01000193);
      this.#b = Math.imul(this.#b ^ unit, 0x01000193) ^ (this.#b >>> 15);
    }
    return this;
  }

  get value(): string {
    return `${(this.#a >>> 0).toString(36)}.${(this.#b >>> 0).toString(36)}`;
  }
}
