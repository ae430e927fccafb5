/** `quern tools`: what models may run, and running it by hand. */
import type { Command } from '../command.ts';
import { listTools, showCapabilities } from '../tools/list.ts';
import { runTool } from '../tools/run.ts';
import { runVerb, type Verb } from '../verbs.ts';

const VERBS: Readonly<Record<string, Verb>> = {
  list: listTools,
  run: runTool,
  capabilities: showCapabilities,
};

export const tools: Command = {
  help: `usage: quern tools list [--json]
       quern tools run NAME [ARGS] [--stdin] [--session S] [--timeout SECONDS] [--key KEY] [--yes]
       quern tools capabilities [--probe] [--json]

Asks the tool service of the running mesh. What runs by hand is recorded in the audit log as what a model runs.

  list          every tool: where it comes from, what the policy says, whether it can run here
  run           runs one in its sandbox; prints the result as JSON: outcome, exit_code, stdout, stderr, reason, content (what a
                model would get), limits_hit (limits that it ran into and went on), times, execution and trace id. Exit code 0
                only for the outcome "ok"
  capabilities  every layer of the sandbox as its last test saw it, with what to do about those that are missing;
                exit code 1 when there is no sandbox

  ARGS             the arguments, a JSON object, as '{"path": "."}' (default: {}); --json ARGS is the same
  --stdin          what comes on standard input, at most 1 MiB, goes to the tool
  --session S      calls of one session share a workspace (default: cli)
  --timeout N      seconds until it must have ended (default: 300)
  --key KEY        idempotency key: the same key again gets the first result
  --yes            allows what the policy asks about; else the terminal is asked; without one it is not run (no_approver)
  --events         each event's number and kind on standard error
  --probe          tests the sandbox now
  --tenant T, --user U  on whose behalf (default: local, which everyone is without a keys file)
  --address ADDR   unix:///PATH or HOST:PORT of a tool service (default: QUERN_TOOLS_ADDRESS, else the running mesh's)`,
  run: async (args, io) => runVerb('tools', VERBS, args, io),
};
