/** Built-in tools in real sandboxes: prepared here, run by the jail's host, answered here. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { builtinTools } from '../../services/tools/builtin/builtins.ts';
import type { TestCommand } from '../../services/tools/builtin/run-tests.ts';
import type { CallContext, JsonObject, ToolAnswer } from '../../services/tools/tool.ts';
import { DEFAULT_LIMITS } from '../../services/tools/tool-limits.ts';
import { PROTECTED_PATHS } from '../../services/tools/workspaces.ts';
import type { HostResult, JailClient } from './jail-client.ts';

export type BuiltinRun = {
  readonly path: string;
  readonly call: CallContext;
  run(name: string, args: JsonObject): Promise<ToolAnswer & { readonly ran: HostResult; readonly tookMs: number }>;
};

/** A workspace of its own, and the built-in tools in it. */
export async function openBuiltins(jail: JailClient, testCommand: TestCommand | null = null): Promise<BuiltinRun> {
  const path = await jail.ask<string>({ kind: 'workspace' });
  const pureEval = { evaluate: () => assert.fail('not in the sandbox'), close: async () => undefined };
  const git = existsSync('/usr/bin/git') ? '/usr/bin/git' : null;
  const tools = builtinTools({ programs: { ...jail.interpreters, git }, pureEval, egress: null, testCommand });
  const call: CallContext = {
    tenant: 'local',
    user: 'local',
    sessionId: 's',
    workspace: { path, protected: PROTECTED_PATHS },
    stdin: null,
    limits: DEFAULT_LIMITS,
  };
  return {
    path,
    call,
    async run(name, args) {
      const tool = tools.find(({ definition }) => definition.name === name);
      assert(tool && tool.unavailable() === null, `${name}: ${tool?.unavailable()}`);
      const prepared = await tool.prepare(args, call);
      assert(prepared.kind === 'sandbox');
      const { argv, ...parts } = prepared.command;
      const ran = await jail.run(
        argv,
        { ...parts, limits: tool.definition.policy.limits },
        { keepBytes: 8 * 1024 ** 2 },
      );
      assert.equal(ran.end.setupFailure, null);
      assert.equal(ran.end.killed, null, `${name} was killed: ${ran.end.killed}`);
      const answer = prepared.answer(ran.end, { stdout: ran.stdout, stderr: ran.stderr, cut: false });
      return { ...answer, ran, tookMs: ran.end.runNs / 1e6 };
    },
  };
}
