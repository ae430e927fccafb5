// The thread in which schemas are compiled and arguments are checked: what a foreign schema costs is its own time, and the
// thread can be ended. Answers one message at a time, in order; argument-check.ts is the other side.
import { isMainThread, parentPort } from 'node:worker_threads';
import { Ajv2020, type AnySchemaObject, type ValidateFunction } from 'ajv/dist/2020.js';
import { assert } from '#kit/assert.ts';
import { linearPattern } from './linear-pattern.ts';
import { schemaProblem } from './schema-problem.ts';
import { READY_ID, type SchemaReply, type SchemaRequest } from './schema-thread-messages.ts';
import { SCHEMAS_KEPT_MAX } from './tool-limits.ts';

const patternEngine = Object.assign((source: string) => linearPattern(source), { code: 'linearPattern' });

/** No coercion, no defaults, no look at prototypes; `format` is an annotation, as 2020-12 has it. */
function newAjv(ignoreUnknown: boolean): Ajv2020 {
  return new Ajv2020({
    strictSchema: !ignoreUnknown,
    strictNumbers: true,
    strictTypes: false,
    strictTuples: false,
    strictRequired: false,
    allErrors: false,
    ownProperties: true,
    coerceTypes: false,
    useDefaults: false,
    validateFormats: false,
    logger: false,
    addUsedSchema: false,
    verbose: true, // errors bring what came
    code: { regExp: patternEngine },
  }).addVocabulary(['example']);
}

const ajvs = new Map<boolean, Ajv2020>();
const compiled = new Map<string, ValidateFunction>();

function compile(request: SchemaRequest & { op: 'compile' }): SchemaReply {
  if (compiled.has(request.key)) return { id: request.id, ok: true };
  const ajv = ajvs.get(request.ignoreUnknown);
  assert(ajv, 'made before the thread was ready');
  const schema: AnySchemaObject = JSON.parse(request.schema);
  const validate = ajv.compile(schema);
  ajv.removeSchema(schema); // else it keeps every schema it has seen
  const oldest = compiled.keys().next().value;
  if (compiled.size >= SCHEMAS_KEPT_MAX && oldest !== undefined) compiled.delete(oldest);
  compiled.set(request.key, validate);
  return { id: request.id, ok: true };
}

function check({ id, key, value }: SchemaRequest & { op: 'check' }): SchemaReply {
  const validate = compiled.get(key);
  if (!validate) return { id, ok: false, unknown: true, message: 'the schema is not compiled' };
  if (validate(JSON.parse(value)) === true) return { id, ok: true };
  const [error] = validate.errors ?? [];
  assert(error, 'a refusal has a reason; schemas are synchronous');
  return { id, ok: false, unknown: false, message: schemaProblem(error) };
}

function answer(request: SchemaRequest): SchemaReply {
  try {
    return request.op === 'compile' ? compile(request) : check(request);
  } catch (error) {
    const tooDeep = error instanceof RangeError;
    const message = tooDeep ? 'nested deeper than can be checked' : (error as Error).message;
    return { id: request.id, ok: false, unknown: false, message };
  }
}

// Not where thread-modules.ts has it compiled.
if (!isMainThread) {
  assert(parentPort, 'runs in a thread of its own');
  const port = parentPort;
  for (const ignoreUnknown of [false, true]) ajvs.set(ignoreUnknown, newAjv(ignoreUnknown)); // in nobody's limited time
  port.on('message', (request: SchemaRequest) => port.postMessage(answer(request)));
  port.postMessage({ id: READY_ID, ok: true } satisfies SchemaReply);
}
