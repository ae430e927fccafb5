// A model's chat template: compiled once, rendered with plain variables. Its errors are the caller's errors.
import { createHash } from 'node:crypto';
import { Template } from '@huggingface/jinja';
import { QuernError } from '#kit/errors.ts';
import { RENDERED_UNITS_MAX } from './limits.ts';
import type { JsonObject, ModelFiles } from './model-files.ts';
import { tokenText } from './special-tokens.ts';
import { FILTER_FUNCTION_NAMES, FILTER_FUNCTIONS, rewriteFilters } from './template-filters.ts';

export type JsonValue = null | boolean | number | string | JsonValue[] | { [key: string]: JsonValue };
export type TemplateVariables = { [name: string]: JsonValue };

/** How assistant turns with tool calls must look so that the template writes the calls; found out at load. */
export type CallShape = {
  /** Content of a turn that holds only calls. */
  emptyContent: '' | null;
  /** Arguments as the object they are, or as its JSON text. */
  callArguments: 'object' | 'text';
};

type Compiled = { template: Template; shape: CallShape };

export type ChatTemplate = {
  /** sha256 of the sources, hex. */
  readonly hash: string;
  /** String constants and attribute names in the template: text that its logic may compare with. */
  readonly words: ReadonlySet<string>;
  /** The whole source, to choose code points that it does not hold. */
  readonly source: string;
  shape(withTools: boolean): CallShape;
  /** Throws INVALID_ARGUMENT, reason CHAT_TEMPLATE_REFUSED, with the template's own message. */
  render(variables: TemplateVariables): string;
};

const SPECIAL_NAMES = ['bos_token', 'eos_token', 'unk_token', 'pad_token', 'sep_token', 'cls_token', 'mask_token'];

/** Names a caller's variables may not take: what the template gets from us or from the template language. */
export const RESERVED_VARIABLES: ReadonlySet<string> = new Set([
  ...['messages', 'tools', 'add_generation_prompt', 'continue_final_message'],
  ...SPECIAL_NAMES,
  ...FILTER_FUNCTION_NAMES,
  ...[
    'true',
    'false',
    'none',
    'True',
    'False',
    'None',
    'raise_exception',
    'range',
    'strftime_now',
    'namespace',
    'loop',
  ],
]);

/** String constants and names of attributes, found by walking the parsed template. */
function collectWords(node: unknown, words: Set<string>): void {
  if (Array.isArray(node)) {
    for (const one of node) collectWords(one, words);
    return;
  }
  if (node instanceof Map) {
    for (const [key, value] of node) {
      collectWords(key, words);
      collectWords(value, words);
    }
    return;
  }
  if (typeof node !== 'object' || node === null) return;
  const { type, value } = node as { type?: string; value?: unknown };
  if (type === 'StringLiteral' && typeof value === 'string') words.add(value);
  const { computed, property } = node as { computed?: boolean; property?: { value?: unknown } };
  if (type === 'MemberExpression' && computed === false && typeof property?.value === 'string')
    words.add(property.value);
  for (const child of Object.values(node)) if (typeof child === 'object') collectWords(child, words);
}

function loadError(message: string, cause?: unknown): QuernError {
  return new QuernError('FAILED_PRECONDITION', message, { reason: 'MODEL_LOAD_FAILED' }, { cause });
}

/** Sources by name: "default", and "tool_use" where a model has one of its own for requests with tools. */
function sourcesOf({ chatTemplate, tokenizerConfig, dir }: ModelFiles): Map<string, string> {
  if (chatTemplate !== null) return new Map([['default', chatTemplate]]);
  const inConfig = tokenizerConfig.chat_template;
  if (inConfig === undefined || inConfig === null) return new Map();
  if (typeof inConfig === 'string') return new Map([['default', inConfig]]);
  const named = new Map<string, string>();
  for (const one of Array.isArray(inConfig) ? (inConfig as JsonObject[]) : []) {
    if (typeof one?.name === 'string' && typeof one.template === 'string') named.set(one.name, one.template);
  }
  if (named.has('default')) return named;
  throw loadError(
    `${dir}: expected chat_template to be text or a list with one named "default", got neither; correct tokenizer_config.json`,
  );
}

function compile(dir: string, name: string, source: string): Template {
  try {
    const template = new Template(source.replaceAll(/\r\n?/g, '\n')); // as Jinja2 reads it
    rewriteFilters(template.parsed);
    return template;
  } catch (cause) {
    const problem = (cause as Error).message;
    throw loadError(`${dir}: the chat template "${name}" does not parse (${problem}); correct it`, cause);
  }
}

function specialTokens(config: JsonObject): TemplateVariables {
  const variables: TemplateVariables = {};
  for (const name of SPECIAL_NAMES) {
    const value = tokenText(config[name]);
    if (value !== null) variables[name] = value;
  }
  return variables;
}

function probeMessages({ emptyContent, callArguments }: CallShape): JsonValue[] {
  const value = { probe_field: 'probe_value' };
  const call = { name: 'probe_tool', arguments: callArguments === 'object' ? value : JSON.stringify(value) };
  return [
    { role: 'user', content: 'q' },
    {
      role: 'assistant',
      content: emptyContent,
      tool_calls: [{ id: 'probe0001', type: 'function', function: call }],
    },
    { role: 'tool', name: 'probe_tool', tool_call_id: 'probe0001', content: 'r' },
  ];
}

const SHAPES: readonly CallShape[] = [
  { emptyContent: '', callArguments: 'object' },
  { emptyContent: null, callArguments: 'object' },
  { emptyContent: '', callArguments: 'text' },
  { emptyContent: null, callArguments: 'text' },
];

/** The first shape in which a call's name and arguments show up in the prompt. */
function findShape(template: Template, constants: TemplateVariables): CallShape {
  const shows = (shape: CallShape): boolean => {
    try {
      const prompt = template.render({
        ...FILTER_FUNCTIONS,
        ...constants,
        tools: null,
        documents: null,
        add_generation_prompt: true,
        messages: probeMessages(shape),
      });
      return prompt.includes('probe_tool') && prompt.includes('probe_value');
    } catch {
      return false;
    }
  };
  return SHAPES.find(shows) ?? SHAPES[0]!;
}

function refused(cause: unknown): QuernError {
  const problem = cause instanceof Error ? cause.message : String(cause);
  const message = `the model's chat template refuses these messages: ${problem}`;
  return new QuernError('INVALID_ARGUMENT', message, { reason: 'CHAT_TEMPLATE_REFUSED' }, { cause });
}

/** Null: the model has no chat template. Throws MODEL_LOAD_FAILED when it has one that does not parse. */
export function createChatTemplate(files: ModelFiles): ChatTemplate | null {
  const sources = sourcesOf(files);
  if (sources.size === 0) return null;
  const constants = specialTokens(files.tokenizerConfig);
  const words = new Set<string>();
  const compiled = new Map<string, Compiled>();
  for (const [name, source] of sources) {
    const template = compile(files.dir, name, source);
    collectWords(template.parsed, words);
    compiled.set(name, { template, shape: findShape(template, constants) });
  }
  const choose = (withTools: boolean): Compiled =>
    (withTools ? compiled.get('tool_use') : undefined) ?? compiled.get('default')!;
  const source = [...sources.values()].join('\0');
  return {
    hash: createHash('sha256').update(source).digest('hex'),
    words,
    source,
    shape: (withTools) => choose(withTools).shape,
    render(variables) {
      let prompt: string;
      try {
        // transformers passes tools and documents always, None when there are none; templates test for that.
        prompt = choose(variables.tools != null).template.render({
          tools: null,
          documents: null,
          ...FILTER_FUNCTIONS,
          ...constants,
          ...variables,
        });
      } catch (cause) {
        throw refused(cause);
      }
      if (prompt.length <= RENDERED_UNITS_MAX) return prompt;
      const message = `the chat template made ${prompt.length} characters of these messages, more than ${RENDERED_UNITS_MAX}; send fewer`;
      throw new QuernError('INVALID_ARGUMENT', message, { reason: 'PROMPT_TOO_LONG' });
    },
  };
}
