// The settings of tracing, the same for every service; each config.ts spreads `tracingEnv` into its own.
import { bool, field, str, type ValuesOf } from '../env.ts';

function endpoint(name: string, doc: string) {
  const expected = 'an http:// or https:// URL';
  return field<string, null>(name, { doc, default: null }, expected, String, (text) => {
    const url = URL.parse(text);
    const fits = url && (url.protocol === 'http:' || url.protocol === 'https:') && !url.search && !url.hash;
    return fits ? { ok: true, value: text } : { ok: false, expected };
  });
}

export const tracingEnv = {
  otlpEndpoint: endpoint(
    'QUERN_OTLP_ENDPOINT',
    'Where spans go: the OTLP/HTTP address of Jaeger or a collector, such as http://127.0.0.1:4318. Absent: nowhere',
  ),
  otelEndpoint: endpoint(
    'OTEL_EXPORTER_OTLP_ENDPOINT',
    'The same by its standard name; QUERN_OTLP_ENDPOINT comes first. OTEL_EXPORTER_OTLP_HEADERS and _CERTIFICATE work too',
  ),
  traceRatio: str('QUERN_TRACE_RATIO', {
    doc: 'Share of new traces that are recorded, 0 to 1. Traces that a caller began follow the caller',
    default: '1',
    pattern: /^(?:0(?:\.\d{1,9})?|1(?:\.0{1,9})?)$/,
    expected: 'a number 0..1, such as 0.05',
  }),
  vllmSpanNames: bool('QUERN_TRACE_VLLM_NAMES', {
    doc: "Write vLLM's span attribute names beside the conventions', for dashboards made for it",
    default: false,
  }),
};

/** `url` null: no export. */
export type TracingConfig = { url: string | null; ratio: number; vllmNames: boolean };

/** Takes the tracing settings out of a service's values. A base address gets the signal's path, as the standard says. */
export function takeTracing<V extends ValuesOf<typeof tracingEnv>>(
  values: V,
): Omit<V, keyof typeof tracingEnv> & { tracing: TracingConfig } {
  const { otlpEndpoint, otelEndpoint, traceRatio, vllmSpanNames, ...rest } = values;
  const base = otlpEndpoint ?? otelEndpoint;
  const url = base === null ? null : `${base.replace(/\/+$/, '').replace(/\/v1\/traces$/, '')}/v1/traces`;
  return { ...rest, tracing: { url, ratio: Number(traceRatio), vllmNames: vllmSpanNames } };
}
