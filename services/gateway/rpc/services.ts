// The public gRPC services, bound to their handlers.
import { AgentServiceService } from '#gen/quern/gateway/v1/agent.ts';
import {
  ChatServiceService,
  CompletionServiceService,
  ModelServiceService,
  RequestServiceService,
} from '#gen/quern/gateway/v1/gateway.ts';
import { defineService, type ServiceRegistration } from '#kit/rpc/server.ts';
import type { GatewayContext } from '../context.ts';
import { agentApprove } from './agent-approve.ts';
import { agentAttach } from './agent-attach.ts';
import { agentRun } from './agent-run.ts';
import { cancel } from './cancel.ts';
import { chat } from './chat.ts';
import { complete } from './complete.ts';
import { withFastDeltas } from './delta-encoding.ts';
import { explain } from './explain.ts';
import { getCapabilities } from './get-capabilities.ts';
import { infill } from './infill.ts';
import { getModel, listModels } from './models.ts';
import { reportEvents } from './report-events.ts';
import { streamChat } from './stream-chat.ts';
import { streamComplete } from './stream-complete.ts';
import { warm } from './warm.ts';

const completionService = {
  ...CompletionServiceService,
  streamComplete: withFastDeltas(CompletionServiceService.streamComplete),
  infill: withFastDeltas(CompletionServiceService.infill),
} as const;

const chatService = { ...ChatServiceService, streamChat: withFastDeltas(ChatServiceService.streamChat) } as const;

export function gatewayServices(context: GatewayContext): ServiceRegistration[] {
  return [
    defineService(completionService, {
      complete: complete(context),
      streamComplete: streamComplete(context),
      infill: infill(context),
      warm: warm(context),
      reportEvents: reportEvents(context),
      getCapabilities: getCapabilities(context),
    }),
    defineService(chatService, { chat: chat(context), streamChat: streamChat(context) }),
    defineService(AgentServiceService, {
      run: agentRun(context),
      attach: agentAttach(context),
      approve: agentApprove(context),
    }),
    defineService(ModelServiceService, { listModels: listModels(context), getModel: getModel(context) }),
    defineService(RequestServiceService, { cancel: cancel(context), explain: explain(context) }),
  ];
}
