/** The words behind `quern-lsp`. */

export type Wish = { kind: 'help' } | { kind: 'version' } | { kind: 'serve' } | { kind: 'wrong'; message: string };

/** What editors add of their own: the process to live as long as, which the protocol's library reads. */
const CLIENT_PROCESS = '--clientProcessId';

export function readCommandLine(words: readonly string[]): Wish {
  const rest = words.filter((word, i) => !word.startsWith(`${CLIENT_PROCESS}=`) && !isClientProcess(words, i));
  const unknown = rest.find((word) => !['--stdio', '--help', '-h', '--version'].includes(word));
  if (unknown !== undefined) {
    const what = unknown.startsWith('-') ? 'option' : 'argument';
    return { kind: 'wrong', message: `unknown ${what} ${unknown}` };
  }
  if (rest.includes('--help') || rest.includes('-h')) return { kind: 'help' };
  if (rest.includes('--version')) return { kind: 'version' };
  if (rest.includes('--stdio')) return { kind: 'serve' };
  return { kind: 'wrong', message: 'expected --stdio' };
}

/** `--clientProcessId 123` in two words. */
function isClientProcess(words: readonly string[], i: number): boolean {
  if (words[i] === CLIENT_PROCESS) return true;
  return words[i - 1] === CLIENT_PROCESS && /^\d+$/.test(words[i] ?? '');
}
