/** `quern doctor`: what is missing or slow on this machine, and how to get it. */

import type { Command } from '../command.ts';
import { inspectMachine } from '../doctor/checks.ts';
import { parseOptions } from '../options.ts';
import { formatTable } from '../table.ts';

export const doctor: Command = {
  help: `usage: quern doctor [--json]

Looks at this machine: Node, CPU, memory, the engine addon, the model, and the programs that later parts use. Exit code 1
when something that the mesh needs is missing.`,
  async run(args, io) {
    const { values } = parseOptions(args, { json: { type: 'boolean' } });
    const findings = inspectMachine(io.config.root, io.config.env);
    if (values.json) io.stdout.write(`${JSON.stringify(findings, null, 2)}\n`);
    else {
      const rows = findings.map(({ name, verdict, found, remedy }) => [
        name,
        verdict,
        verdict === 'ok' || remedy === undefined ? found : `${found} -> ${remedy}`,
      ]);
      io.stdout.write(formatTable(['part', 'verdict', 'found'], rows));
    }
    return findings.some(({ verdict }) => verdict === 'missing') ? 1 : 0;
  },
};
