/** How a part ended that said nothing about it itself. */

/** SIGKILL leaves no line in a log, and on a machine where nobody typed it the kernel sends it, for want of memory. */
export function endOfPart(code: number | null, signal: NodeJS.Signals | null): string {
  if (signal === 'SIGKILL') {
    return (
      'killed (SIGKILL), so its log cannot say why: most likely the machine or its container ran out of memory; ' +
      'journalctl -k or dmesg names it then'
    );
  }
  return `ended by ${signal ?? `exit code ${code}`}; its log says why`;
}
