// The bounds of span export. A collector that is slow or gone costs memory up to the queue and nothing else.
import { assert } from '../assert.ts';

/** Finished spans that wait to be sent; about 8 MB at 1 KiB each. More are dropped and counted. */
export const TRACE_QUEUE_SPANS_MAX = 8192;
/**
 * Finished spans that are encoded at a time: the encoder's code is then in the processor's caches for all but the first. Longer lists
 * would hold up the event loop for longer than 0.1 ms.
 */
export const TRACE_ENCODE_SPANS = 32;
/** Spans in one POST, about 0.7 MB. A POST costs 1 to 2 ms of CPU time however few it holds, so that few large ones are cheaper. */
export const TRACE_BATCH_SPANS = 2048;
/** The longest that a span waits for others. */
export const TRACE_FLUSH_MS = 1_000;
/** One POST with its retries. */
export const TRACE_EXPORT_TIMEOUT_MS = 5_000;
/** What stopping a process waits for its last spans; part of the grace that whoever stops it allows. */
export const TRACE_CLOSE_MS = 2_000;
/** Between two log lines about spans that were dropped or refused. */
export const TRACE_LOG_MS = 60_000;
/** Longer text values are cut: spans hold names and numbers, no content. */
export const TRACE_VALUE_CHARS_MAX = 256;
/** Links of one span. */
export const TRACE_LINKS_MAX = 32;
/** Events of one span. */
export const TRACE_EVENTS_MAX = 32;

assert(TRACE_BATCH_SPANS <= TRACE_QUEUE_SPANS_MAX, 'a batch must fit into the queue');
