// What a server's result becomes: text for the model, the structured part if it is what the tool promises, a failure that says so.
import type { ArgumentChecker } from '../argument-check.ts';
import { parseArguments } from '../json-arguments.ts';
import { stripText } from '../model-output.ts';
import type { JsonObject, ToolAnswer } from '../tool.ts';
import { BinaryParts } from './binary-parts.ts';
import type { CallResult, ContentPart } from './server-answers.ts';

const MESSAGE_CHARS = 300;

/** Only text reaches the model; of anything else it is told what there was. */
function partText(part: ContentPart, binaries: BinaryParts): string {
  if (part.type === 'text') return part.text;
  if (part.type === 'image' || part.type === 'audio') {
    return `[${part.type} ${part.mimeType}, ${binaries.add(part.type, part.mimeType, part.data)}]`;
  }
  if (part.type === 'resource_link') return `[resource ${part.name}: ${part.uri}]`;
  const { resource } = part;
  if ('text' in resource) return `[resource ${resource.uri}]\n${resource.text}`;
  const kept = binaries.add('resource', resource.mimeType, resource.blob);
  return `[resource ${resource.uri}, ${resource.mimeType ?? 'unknown type'}, ${kept}]`;
}

function contentText({ content, left }: CallResult, binaries: BinaryParts): string {
  return [
    ...content.map((part) => partText(part, binaries)),
    ...(left > 0 ? [`[${left} further parts left out]`] : []),
  ].join('\n');
}

function failed(content: string, message: string): ToolAnswer {
  return { ok: false, message, content: content === '' ? message : content, structured: null, artifacts: [] };
}

/** Why the structured part is not what the tool promises, or the part itself. */
async function structuredOf(
  result: CallResult,
  outputSchema: JsonObject | null,
  checker: ArgumentChecker,
  signal: AbortSignal,
): Promise<{ ok: true; value: JsonObject | null } | { ok: false; why: string }> {
  const { structuredContent } = result;
  if (structuredContent === undefined) {
    return outputSchema === null ? { ok: true, value: null } : { ok: false, why: 'but sent none' };
  }
  let text: string;
  try {
    text = JSON.stringify(structuredContent);
  } catch {
    return { ok: false, why: 'but it is nested too deep' };
  }
  const checked = outputSchema ? await checker.check(outputSchema, text, { signal }) : parseArguments(text);
  if (checked.ok) return { ok: true, value: 'args' in checked ? checked.args : checked.value };
  return { ok: false, why: checked.message.replace(/^arguments:?/, 'but its result:') };
}

export async function callAnswer(
  result: CallResult,
  { outputSchema, checker, signal }: { outputSchema: JsonObject | null; checker: ArgumentChecker; signal: AbortSignal },
): Promise<ToolAnswer> {
  const binaries = new BinaryParts();
  const content = contentText(result, binaries);
  if (result.isError) {
    const [first = ''] = stripText(content).split('\n');
    return failed(content, `the tool says that it failed: ${first.slice(0, MESSAGE_CHARS) || 'without a reason'}`);
  }
  const structured = await structuredOf(result, outputSchema, checker, signal);
  if (!structured.ok) return failed(content, `the tool promises a structured result, ${structured.why}`);
  const { value } = structured;
  return {
    ok: true,
    message: '',
    content: content === '' && value !== null ? JSON.stringify(value) : content,
    structured: value,
    artifacts: binaries.artifacts,
  };
}
