/** Shows the events of a generation as they come, and keeps what the last line tells. */
import { FinishReason } from '#gen/quern/common/v1/common.ts';
import type {
  ChoiceFinished,
  InfillEnd,
  ReasoningDelta,
  RequestEnd,
  TextDelta,
} from '#gen/quern/gateway/v1/gateway.ts';
import { textFor, visible } from './terminal-text.ts';
import { describeEnd } from './timings.ts';

export type GenerationEvent =
  | { $case: 'delta'; value: TextDelta }
  | { $case: 'choiceFinished'; value: ChoiceFinished }
  | { $case: 'end'; value: RequestEnd | InfillEnd }
  | { $case: 'reasoning'; value: ReasoningDelta }
  | { $case: 'accepted' | 'promptLogprobs' | 'toolCall'; value: object };

export type Printed = {
  text: string;
  /** The line of figures with its line end; empty when the stream had no end. */
  figures: string;
};

/** Reads `events` to their end; `out` absent: nothing is shown. When it rejects, what a terminal was shown ends its line. */
export async function printStream(
  events: AsyncIterable<{ event?: GenerationEvent | undefined }>,
  out: NodeJS.WriteStream | undefined,
): Promise<Printed> {
  const started = performance.now();
  let firstMs: number | undefined;
  let text = '';
  let finished: ChoiceFinished | undefined;
  let figures = '';
  try {
    for await (const { event } of events) {
      if (event?.$case === 'delta') {
        firstMs ??= performance.now() - started;
        text += event.value.text;
        out?.write(textFor(out, event.value.text));
      } else if (event?.$case === 'reasoning') {
        firstMs ??= performance.now() - started;
        // Shown to people, dimmed; not part of the answer that scripts read.
        if (out?.isTTY) out.write(`\u001b[2m${visible(event.value.text)}\u001b[22m`);
      } else if (event?.$case === 'choiceFinished') finished = event.value;
      else if (event?.$case === 'end') {
        const end = 'family' in event.value ? event.value.end : event.value;
        if (end !== undefined) figures = `${describeEnd(end, firstMs, finishWords(finished))}\n`;
      }
    }
  } catch (error) {
    if (firstMs !== undefined && out?.isTTY) out.write('\n'); // the reason, or the shell's prompt, stands on a line of its own
    throw error;
  }
  return { text, figures };
}

function finishWords(finished: ChoiceFinished | undefined): string {
  switch (finished?.finishReason) {
    case FinishReason.FINISH_REASON_LENGTH:
      return 'cut at the token limit';
    case FinishReason.FINISH_REASON_STOP:
      return finished.stopString === '' ? 'ended by the model' : `stopped at ${JSON.stringify(finished.stopString)}`;
    default:
      return '';
  }
}
