// The tools that ship with Quern.
import type { Egress } from '../egress/egress.ts';
import type { Tool } from '../tool.ts';
import type { Programs } from './builtin-tool.ts';
import { evalJsPureTool } from './eval-js-pure.ts';
import { fileTools } from './file-tools.ts';
import { gitTool } from './git.ts';
import { httpFetchTool } from './http-fetch.ts';
import type { PureEval } from './pure-eval.ts';
import { runCodeTool } from './run-code.ts';
import { runTestsTool, type TestCommand } from './run-tests.ts';

export function builtinTools(options: {
  readonly programs: Programs;
  readonly pureEval: PureEval;
  /** Null: http_fetch is there and says that it cannot run. */
  readonly egress: Egress | null;
  /** Null: run_tests likewise. */
  readonly testCommand: TestCommand | null;
}): Tool[] {
  const { programs, pureEval, egress, testCommand } = options;
  return [
    runCodeTool(programs),
    ...fileTools(programs),
    gitTool(programs),
    runTestsTool(testCommand),
    httpFetchTool(egress),
    evalJsPureTool(pureEval),
  ];
}
