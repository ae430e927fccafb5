// A prompt as somebody reads it who is allowed to: what the content store keeps of it. Not what a digest is made of.
import { Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Prompt } from '../typed-request.ts';

/** Stands where the text of an infill is missing. */
export const HOLE = '<|hole|>';

/** "user" for ROLE_USER. */
function roleName(role: Role): string {
  const name = Object.entries(Role).find(([, value]) => value === role)?.[0] ?? 'unknown';
  return name.replace('ROLE_', '').toLowerCase();
}

export function promptText(prompt: Prompt): string {
  switch (prompt.kind) {
    case 'text':
      return prompt.text;
    case 'token_ids':
      return `token ids: ${prompt.tokenIds.join(' ')}`;
    case 'infill': {
      const other = prompt.chunks.map(({ path, text }) => `${path}\n${text}\n`).join('');
      return `${other}${prompt.path === '' ? '' : `${prompt.path}\n`}${prompt.prefix}${HOLE}${prompt.suffix}`;
    }
    case 'chat':
      return prompt.messages
        .map(({ role, content, toolCalls }) => {
          const calls = toolCalls.map(({ name, argumentsJson }) => `\n${name}(${argumentsJson})`).join('');
          return `${roleName(role)}: ${content}${calls}`;
        })
        .join('\n');
  }
}
