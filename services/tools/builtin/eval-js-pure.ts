// eval_js_pure: a computation in JavaScript that needs nothing but its input.
import { canonicalJson } from '../canonical.ts';
import { parseBoundedJson } from '../json-arguments.ts';
import type { Tool } from '../tool.ts';
import { EVAL_CALL_WALL_MS, EVAL_MEMORY_BYTES, EVAL_WALL_MS } from '../tool-limits.ts';
import { answered, builtinTool, failed, READS, textArgument } from './builtin-tool.ts';
import type { PureEval } from './pure-eval.ts';

export function evalJsPureTool(pureEval: PureEval): Tool {
  return builtinTool({
    name: 'eval_js_pure',
    description: 'Evaluates JavaScript without any access, and answers the value of its last expression as JSON.',
    properties: {
      code: { type: 'string', minLength: 1, description: 'A script; it sees its input as `input`' },
      input: { description: 'Any JSON' },
    },
    required: ['code'],
    annotations: READS,
    taint: {},
    limits: { wallMs: EVAL_CALL_WALL_MS, memoryBytes: EVAL_MEMORY_BYTES },
    runs: { interpreter: 'quickjs-emscripten-core 0.32.0' },
    async prepare(args, call) {
      const code = textArgument(args, 'code', '');
      const input = canonicalJson(Object.hasOwn(args, 'input') ? (args.input ?? null) : null);
      return {
        kind: 'function',
        tier: 'W',
        async run({ signal }) {
          const reply = await pureEval.evaluate(code, input, {
            wallMs: Math.min(EVAL_WALL_MS, call.limits.wallMs),
            signal,
          });
          signal.throwIfAborted();
          if (!reply.ok) return failed(reply.message, reply.message);
          const parsed = parseBoundedJson(reply.json, 'result');
          return parsed.ok
            ? { ...answered(reply.json), structured: parsed.value }
            : failed(parsed.message, parsed.message);
        },
      };
    },
  });
}
