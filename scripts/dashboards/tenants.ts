import { type Dashboard, lines, stat, sumRate, table } from './panels.ts';

const TENANT = '{tenant=~"$tenant"}';

export const tenants: Dashboard = {
  uid: 'quern-tenants',
  title: 'Quern: tenants',
  description:
    'Who uses how much. Tenants beyond 200 are shown together as "other"; users and keys are in the audit log, not here.',
  variables: [{ name: 'tenant', label: 'tenant', metric: 'quern_gateway_tenant_requests_total' }],
  rows: [
    {
      title: 'Now',
      panels: [
        stat('Tenants', 'That asked in the last hour', 'none', [
          ['count(sum by (tenant) (increase(quern_gateway_tenant_requests_total[1h])) > 0)', ''],
        ]),
        stat('Requests', 'Per second', 'reqps', [
          [`sum(rate(quern_gateway_tenant_requests_total${TENANT}[$__rate_interval]))`, ''],
        ]),
        stat('Tokens', 'Per second, prompt and completion', 'short', [
          [
            'sum(rate(quern_gateway_tenant_tokens_total{tenant=~"$tenant",kind=~"prompt|completion"}[$__rate_interval]))',
            '',
          ],
        ]),
        stat('Shed by key bounds', 'Per second', 'reqps', [
          ['sum(rate(quern_gateway_shed_total{reason=~"principal_.+"}[$__rate_interval]))', ''],
        ]),
      ],
    },
    {
      title: 'Use',
      panels: [
        lines('Requests', 'Per second', 'reqps', [
          [`sum by (tenant) (rate(quern_gateway_tenant_requests_total${TENANT}[$__rate_interval]))`, '{{tenant}}'],
        ]),
        lines('Completion tokens', 'Per second', 'short', [
          [
            'sum by (tenant) (rate(quern_gateway_tenant_tokens_total{tenant=~"$tenant",kind="completion"}[$__rate_interval]))',
            '{{tenant}}',
          ],
        ]),
        lines('Prompt tokens', 'Per second', 'short', [
          [
            'sum by (tenant) (rate(quern_gateway_tenant_tokens_total{tenant=~"$tenant",kind="prompt"}[$__rate_interval]))',
            '{{tenant}}',
          ],
        ]),
        lines('Concurrency', 'Requests at once, on average', 'none', [
          [
            `sum by (tenant) (rate(quern_gateway_tenant_request_seconds_total${TENANT}[$__rate_interval]))`,
            '{{tenant}}',
          ],
        ]),
        lines('Mean time', 'Per request', 's', [
          [
            ['quern_gateway_tenant_request_seconds_total', 'quern_gateway_tenant_requests_total']
              .map((counter) => sumRate(counter, TENANT, 'tenant'))
              .join(' / '),
            '{{tenant}}',
          ],
        ]),
        lines('From the prefix cache', 'Share of the prompt tokens', 'percentunit', [
          [
            ['cached', 'prompt']
              .map((kind) => `{tenant=~"$tenant",kind="${kind}"}`)
              .map((selector) => sumRate('quern_gateway_tenant_tokens_total', selector, 'tenant'))
              .join(' / '),
            '{{tenant}}',
          ],
        ]),
      ],
    },
    {
      title: 'Last 24 hours',
      panels: [
        table('Tokens', 'By tenant and kind', 'short', [
          [`sum by (tenant, kind) (increase(quern_gateway_tenant_tokens_total${TENANT}[24h]))`, ''],
        ]),
        table('Requests', 'By tenant and outcome', 'short', [
          [`sum by (tenant, outcome) (increase(quern_gateway_tenant_requests_total${TENANT}[24h]))`, ''],
        ]),
      ],
    },
  ],
};
