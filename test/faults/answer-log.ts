// What a client saw of one answer, and whether the order of its events was right.
export type SeenChoice = { text: string; ids: number[]; reason: string | null };

export class AnswerLog {
  readonly choices: SeenChoice[];
  /** Broken rules of the protocol, in words. */
  readonly violations: string[] = [];
  /** Null until the one final event. */
  completionTokens: number | null = null;
  #ended = false;

  constructor(choices: number) {
    this.choices = Array.from({ length: choices }, () => ({ text: '', ids: [], reason: null }));
  }

  delta(index: number, text: string, ids: readonly number[]): void {
    const choice = this.#open(index, 'a delta');
    if (!choice) return;
    choice.text += text;
    choice.ids.push(...ids);
  }

  finished(index: number, reason: string): void {
    const choice = this.#open(index, 'a finish');
    if (choice) choice.reason = reason;
  }

  /** The final event of an answer. */
  end(completionTokens: number): void {
    if (this.#ended) this.violations.push('two ends');
    const open = this.choices.filter((choice) => choice.reason === null).length;
    if (open > 0) this.violations.push(`an end while ${open} choices are open`);
    this.#ended = true;
    this.completionTokens = completionTokens;
  }

  /** An error as the final event. */
  failed(): void {
    if (this.#ended) this.violations.push('an error after the end');
    this.#ended = true;
  }

  #open(index: number, what: string): SeenChoice | null {
    const choice = this.choices[index];
    if (this.#ended) this.violations.push(`${what} after the end`);
    else if (!choice) this.violations.push(`${what} of choice ${index}`);
    else if (choice.reason !== null) this.violations.push(`${what} of choice ${index} after its finish`);
    else return choice;
    return null;
  }
}
