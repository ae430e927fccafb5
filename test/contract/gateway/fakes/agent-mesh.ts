// A gateway between a scripted model, which calls tools in the Hermes format, and a fake tool service.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { GenerationRequest } from '#gen/quern/engine/v1/engine.ts';
import { AgentServiceClient, RunRequest, type RunResponse } from '#gen/quern/gateway/v1/agent.ts';
import { type ChatMessage, Role } from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Tool } from '#gen/quern/tools/v1/tools.ts';
import { openChannel, serverStream } from '#kit/rpc/client.ts';
import { type FakePlay, type FakeTools, fakeTool, startFakeTools, toolResult } from './fake-tools.ts';
import { type MeshOptions, startMesh, type TestMesh } from './mesh.ts';
import { bytesOf, IM_END, SPECIAL, startMockTokenizer } from './mock-tokenizer.ts';

/** What a prompt was, control tokens by their names. */
export function textOf(tokenIds: readonly number[]): string {
  return Buffer.concat(
    tokenIds.map((id) => (id < 256 ? Buffer.from([id]) : Buffer.from(SPECIAL[id - 256] as string))),
  ).toString();
}

/** The last messages of a prompt, newest last: [role, text]. */
export function messagesOf(prompt: string): [role: string, text: string][] {
  return [...prompt.matchAll(/<\|im_start\|>(\w+)\n([\s\S]*?)<\|im_end\|>/g)].map(([, role = '', text = '']) => [
    role,
    text,
  ]);
}

export const hermes = (name: string, args: object): string =>
  `<tool_call>\n${JSON.stringify({ name, arguments: args })}\n</tool_call>`;

/** What the model says to a prompt. */
export type Model = (prompt: string, request: GenerationRequest) => string;

export type AgentMesh = {
  mesh: TestMesh;
  tools: FakeTools;
  agent: InstanceType<typeof AgentServiceClient>;
  /** All events of a run. */
  run(request: Partial<RunRequest>, options?: RunOptions): Promise<RunResponse[]>;
};

export type RunOptions = {
  signal?: AbortSignal;
  timeoutMs?: number;
  metadata?: Record<string, string>;
  onEvent?: (event: RunResponse) => void;
};

export const user = (content: string): ChatMessage => ({
  role: Role.ROLE_USER,
  content,
  reasoningContent: '',
  name: '',
  toolCalls: [],
  toolCallId: '',
});

export function runRequest(over: Partial<RunRequest> = {}): RunRequest {
  return { ...RunRequest.decode(new Uint8Array(0)), messages: [user('go')], ...over };
}

export async function startAgentMesh(
  t: Pick<TestContext, 'after'>,
  from: {
    model: Model;
    tools?: readonly Tool[];
    play?: FakePlay;
    mesh?: MeshOptions;
    tokensPerStep?: number;
    toolsAddress?: string;
  },
): Promise<AgentMesh> {
  const folder = mkdtempSync(join(tmpdir(), 'quern-agent-'));
  const play = from.play ?? (async ({ tool }) => toolResult(`from ${tool}`));
  const tools = await startFakeTools(`unix://${folder}/tools.sock`, from.tools ?? [fakeTool('f'), fakeTool('g')], play);
  const tokenizer = await startMockTokenizer({
    listen: `unix://${folder}/tok.sock`,
    toolParser: 'hermes',
    reasoningParser: 'think',
  });
  t.after(async () => {
    await tools.close();
    await tokenizer.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const given = from.mesh?.env;
  const mesh = await startMesh(t, {
    ...from.mesh,
    engine: {
      stepMs: 0,
      tokensPerStep: from.tokensPerStep ?? 7,
      contextLength: 1 << 16,
      script: (request) => [...bytesOf(from.model(textOf(request.tokenIds), request)), IM_END],
      ...from.mesh?.engine,
    },
    env: (own) => ({
      QUERN_TOOLS_ADDRESS: from.toolsAddress ?? tools.address,
      QUERN_GATEWAY_TOKENIZER: tokenizer.address,
      ...(typeof given === 'function' ? given(own) : given),
    }),
  });
  const agent = openChannel(AgentServiceClient, { address: mesh.gateway.grpcAddress });
  t.after(() => agent.close());
  return {
    mesh,
    tools,
    agent,
    async run(request, { onEvent, ...options } = {}) {
      const events: RunResponse[] = [];
      for await (const event of serverStream(agent, 'run', runRequest(request), options)) {
        events.push(event);
        onEvent?.(event);
      }
      return events;
    },
  };
}
