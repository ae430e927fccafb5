// Evaluates one piece of JavaScript in QuickJS (WebAssembly): an interpreter without files, network, processes, timers and
// modules. Memory, stack and time are limited inside; pure-eval.ts ends the thread when that does not help.
import { isMainThread, type MessagePort, parentPort } from 'node:worker_threads';
import variant from '@jitl/quickjs-wasmfile-release-sync';
import {
  newQuickJSWASMModuleFromVariant,
  type QuickJSContext,
  type QuickJSHandle,
  type QuickJSSyncVariant,
  type QuickJSWASMModule,
} from 'quickjs-emscripten-core';
import { assert } from '#kit/assert.ts';
import { EVAL_KEEP_BYTES, EVAL_MEMORY_BYTES, EVAL_RESULT_CHARS_MAX, EVAL_STACK_BYTES } from '../tool-limits.ts';
import type { EvalReply, EvalRequest } from './eval-messages.ts';

const MESSAGE_CHARS_MAX = 400;

/** Name and message of what was thrown, whatever it is. */
function thrownText(context: QuickJSContext, error: QuickJSHandle): string {
  const read = (name: string): string => context.getProp(error, name).consume((value) => context.getString(value));
  const isObject = context.typeof(error) === 'object';
  const text = isObject ? `${read('name')}: ${read('message')}` : `thrown: ${context.getString(error)}`;
  return text.slice(0, MESSAGE_CHARS_MAX);
}

/** The interpreter's own JSON.stringify: to be taken before the code runs, which may put its own in that place. */
function ownStringify(context: QuickJSContext): QuickJSHandle {
  return context.unwrapResult(context.evalCode('JSON')).consume((object) => context.getProp(object, 'stringify'));
}

/** The result as JSON: nothing of the interpreter's objects comes out but text. */
function toJson(
  context: QuickJSContext,
  stringify: QuickJSHandle,
  value: QuickJSHandle,
): { ok: true; json: string } | { ok: false; message: string } {
  const result = context.callFunction(stringify, context.undefined, value);
  if (result.error) return result.error.consume((error) => ({ ok: false, message: thrownText(context, error) }));
  return result.value.consume((text) => {
    if (context.typeof(text) !== 'string') return { ok: true, json: 'null' };
    const length = context.getProp(text, 'length').consume((one) => context.getNumber(one));
    if (length > EVAL_RESULT_CHARS_MAX) {
      return {
        ok: false,
        message: `the result has ${length} characters as JSON; expected at most ${EVAL_RESULT_CHARS_MAX}`,
      };
    }
    return { ok: true, json: context.getString(text) };
  });
}

function evaluate(
  module: QuickJSWASMModule,
  { code, input, wallMs, stop }: EvalRequest,
): { ok: true; json: string } | { ok: false; message: string } {
  const runtime = module.newRuntime();
  runtime.setMemoryLimit(EVAL_MEMORY_BYTES);
  runtime.setMaxStackSize(EVAL_STACK_BYTES);
  const end = performance.now() + wallMs;
  let isOver = false;
  runtime.setInterruptHandler(() => {
    isOver ||= performance.now() > end || Atomics.load(stop, 0) !== 0;
    return isOver;
  });
  const context = runtime.newContext();
  const stringify = ownStringify(context);
  try {
    const given = context.unwrapResult(context.evalCode(`(${input})`)); // JSON is an expression
    given.consume((value) => context.setProp(context.global, 'input', value));
    const result = context.evalCode(code, 'code.js');
    if (isOver) {
      result.dispose();
      return { ok: false, message: tooLong(wallMs) };
    }
    if (result.error) return result.error.consume((error) => ({ ok: false, message: thrownText(context, error) }));
    const text = result.value.consume((value) => toJson(context, stringify, value));
    return isOver ? { ok: false, message: tooLong(wallMs) } : text;
  } finally {
    stringify.dispose();
    context.dispose();
    runtime.dispose();
  }
}

const tooLong = (wallMs: number): string => `took more than ${wallMs} ms, the limit of this tool; do less in one call`;

async function serve(port: MessagePort): Promise<void> {
  const loaded = Promise.withResolvers<QuickJSWASMModule>();
  port.on('message', async (request: EvalRequest) => {
    const module = await loaded.promise;
    let reply: EvalReply;
    try {
      reply = { ...evaluate(module, request), keep: true };
    } catch (error) {
      reply = {
        ok: false,
        message: `the interpreter failed: ${(error as Error).message.slice(0, MESSAGE_CHARS_MAX)}`,
        keep: false,
      };
    }
    port.postMessage(
      reply.keep && module.getWasmMemory().buffer.byteLength <= EVAL_KEEP_BYTES ? reply : { ...reply, keep: false },
    );
  });
  // Only now, with the port listening: a thread whose event loop has nothing left waits, blocked, for V8's background tasks, and hangs
  // for good when the one that compiles this module queues behind an optimization that waits for this thread's garbage collection.
  // Its types are those of CommonJS, where the variant is one member further in.
  loaded.resolve(await newQuickJSWASMModuleFromVariant(variant as unknown as QuickJSSyncVariant));
  port.postMessage('ready');
}

// Not where thread-modules.ts has it compiled.
if (!isMainThread) {
  assert(parentPort, 'runs in a thread of its own');
  await serve(parentPort);
}
