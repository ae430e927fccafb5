// Requests of all kinds at once against a gateway, each judged by itself: one final event or the error that was due,
// and exactly the tokens that the model gives when nobody disturbs it.
import {
  breakConnection,
  type ChaosTarget,
  type Observed,
  type Outcome,
  runBadCall,
  runGeneration,
} from './chaos-client.ts';
import { type GenerationPlan, type Plan, type PlanOptions, planRequest } from './chaos-plan.ts';

/** What a recipe gives with the most tokens a plan asks for. */
export type KnownAnswer = { ids: readonly number[]; text: string; reason: string };

export type Known = {
  /** Per choice. */
  answer(recipe: string): readonly KnownAnswer[];
  /** Text of ids from the beginning of an answer. */
  decode(ids: readonly number[]): string;
};

export type ChaosOptions = PlanOptions & {
  requests: number;
  concurrency: number;
  /** Called before request number `index` begins. */
  onRequest?: (index: number) => void;
};

export type ChaosReport = {
  seed: number;
  requests: number;
  /** How many requests ended in which way. */
  outcomes: Record<string, number>;
  /** Each request that ended in a way that its plan does not allow. */
  wrong: string[];
};

/** Codes with which a generation may be refused, by what its client did. */
const ALLOWED: Record<GenerationPlan['behaviour']['kind'], readonly string[]> = {
  whole: [],
  cancel: ['CANCELLED'],
  disconnect: [],
  // The engine refuses what it cannot do in time before it begins.
  deadline: ['DEADLINE_EXCEEDED', 'RESOURCE_EXHAUSTED'],
};

function judgeChoice(plan: GenerationPlan, seen: Observed['log']['choices'][number], known: KnownAnswer, texts: Known) {
  const cancelled = seen.reason === 'cancelled';
  const expected = known.ids.slice(0, plan.maxTokens);
  if (!seen.ids.every((id, i) => id === expected[i])) {
    const at = seen.ids.findIndex((id, i) => id !== expected[i]);
    return `id ${at} is ${seen.ids[at]} instead of ${expected[at]}`;
  }
  if (!cancelled && seen.ids.length !== expected.length) return `${seen.ids.length} ids instead of ${expected.length}`;
  // A stop string ends the text before its last tokens do.
  const text = plan.recipe.stop && known.text.startsWith(seen.text) ? seen.text : texts.decode(seen.ids);
  if (seen.text !== text) return `${JSON.stringify(seen.text)} instead of ${JSON.stringify(text)}`;
  const reasons = plan.maxTokens > known.ids.length ? [known.reason] : ['length', known.reason];
  if (cancelled) return plan.behaviour.kind === 'cancel' ? null : 'cancelled by nobody';
  return reasons.includes(String(seen.reason)) ? null : `finish reason ${seen.reason} instead of ${reasons}`;
}

function judgeAnswer(plan: GenerationPlan, { log }: Observed, texts: Known): string | null {
  const known = texts.answer(plan.recipe.name);
  for (const [i, seen] of log.choices.entries()) {
    const fault = judgeChoice(plan, seen, known[i] as KnownAnswer, texts);
    if (fault !== null) return `choice ${i}: ${fault}`;
  }
  const ids = log.choices.reduce((sum, choice) => sum + choice.ids.length, 0);
  return log.completionTokens === ids ? null : `usage of ${log.completionTokens} tokens for ${ids} ids`;
}

function judgeGeneration(plan: GenerationPlan, observed: Observed, texts: Known): string | null {
  const { outcome, log, cancelFound } = observed;
  const { kind } = plan.behaviour;
  if (log.violations.length > 0) return log.violations.join('; ');
  if (cancelFound instanceof Error) return `Cancel failed: ${cancelFound.message}`;
  if (outcome.kind === 'dropped') return null; // only its own client drops it
  if (outcome.kind === 'refused') {
    return ALLOWED[kind].includes(outcome.code) ? null : `refused: ${outcome.message}`;
  }
  if (cancelFound === false && log.choices.some((choice) => choice.reason === 'cancelled')) {
    return 'cancelled, but Cancel found no such request';
  }
  return judgeAnswer(plan, observed, texts);
}

function describe(outcome: Outcome, reason: string | null | undefined): string {
  if (outcome.kind === 'refused') return outcome.code;
  return outcome.kind === 'answered' ? (reason ?? 'answered') : 'dropped';
}

async function runOne(target: ChaosTarget, plan: Plan, texts: Known): Promise<{ kind: string; fault: string | null }> {
  if (plan.type === 'broken connection') {
    await breakConnection(target, plan.bytes, plan.lingerMs);
    return { kind: plan.type, fault: null };
  }
  if (plan.type === 'bad') {
    const { expect, name } = plan.call;
    const outcome = await runBadCall(target, plan.call);
    const isRight = outcome.kind === 'refused' && outcome.code === expect.code && outcome.field === expect.field;
    const fault = isRight ? null : `${name}: ${JSON.stringify(outcome)} instead of ${JSON.stringify(expect)}`;
    return { kind: `bad: ${describe(outcome, null)}`, fault };
  }
  const observed = await runGeneration(target, plan);
  const fault = judgeGeneration(plan, observed, texts);
  return { kind: `${plan.behaviour.kind}: ${describe(observed.outcome, observed.log.choices[0]?.reason)}`, fault };
}

/** Runs `requests` planned requests, `concurrency` at once. */
export async function runChaos(target: ChaosTarget, texts: Known, options: ChaosOptions): Promise<ChaosReport> {
  const { seed, requests, concurrency, onRequest } = options;
  const report: ChaosReport = { seed, requests, outcomes: {}, wrong: [] };
  let begun = 0;
  const worker = async (): Promise<void> => {
    while (begun < requests) {
      const index = begun;
      begun += 1;
      onRequest?.(index);
      const plan = planRequest(index, options);
      const { kind, fault } = await runOne(target, plan, texts);
      report.outcomes[kind] = (report.outcomes[kind] ?? 0) + 1;
      if (fault !== null) report.wrong.push(`seed ${seed}, request ${index} (${JSON.stringify(plan)}): ${fault}`);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  return report;
}
