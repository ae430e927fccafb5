/** `quern doctor`: what is missing or slow on this machine, and how to get it. */
import type { Command } from '../command.ts';
import { type Finding, inspectMachine } from '../doctor/checks.ts';
import { parseOptions } from '../options.ts';

export const doctor: Command = {
  help: `usage: quern doctor [--json]

Looks at this machine: Node, CPU, memory, the engine addon, the model, what builds the engine, nats-server, Jaeger and the sandbox
of tools. Verdicts: ok, slow, missing (the mesh cannot start or be built without it), optional. Exit code 1 when something is missing.`,
  async run(args, io) {
    const { values } = parseOptions(args, { json: { type: 'boolean' } });
    const findings = await inspectMachine(io.config);
    io.stdout.write(values.json ? `${JSON.stringify(findings, null, 2)}\n` : formatFindings(findings));
    return findings.some(({ verdict }) => verdict === 'missing') ? 1 : 0;
  },
};

/** One line per part, what to do below it, and one sentence at the end. */
export function formatFindings(findings: Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  const lines = findings.map(({ name, verdict, found, remedy }) => {
    const line = `${verdict.padEnd(8)}  ${name.padEnd(width)}  ${found}`;
    return remedy === undefined ? line : `${line}\n${' '.repeat(width + 12)}-> ${remedy}`;
  });
  return `${lines.join('\n')}\n\n${summary(findings)}\n`;
}

function summary(findings: Finding[]): string {
  const names = (verdict: Finding['verdict']): string =>
    findings
      .filter((finding) => finding.verdict === verdict)
      .map(({ name }) => name)
      .join(', ');
  const slow = names('slow') === '' ? '' : ` Slower than it could be: ${names('slow')}.`;
  return (names('missing') === '' ? 'Nothing is missing.' : `Missing: ${names('missing')}.`) + slow;
}
