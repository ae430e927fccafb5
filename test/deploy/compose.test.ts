// deploy/compose.yaml and the images: what a schema and docker itself would say, as far as it can be said without them, and the
// house rules for containers. `docker compose config` is asked too where it is installed.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { auditEnv } from '../../services/audit/config.ts';
import { NODE_OPTIONS_OF } from '../../services/cli/up/plan.ts';
import { TOOLS_MALLOC_ENV } from '../../services/cli/up/tools-plan.ts';
import { engineEnv } from '../../services/engine/config.ts';
import { gatewayEnv } from '../../services/gateway/config.ts';
import { tokenizerEnv } from '../../services/tokenizer/config.ts';
import { toolsEnv } from '../../services/tools/config.ts';
import { root } from './rules.ts';
import { readYaml } from './yaml.ts';

type Service = {
  image: string;
  command?: string[];
  user?: string;
  read_only?: boolean;
  cap_drop?: string[];
  cap_add?: string[];
  security_opt?: string[];
  init?: boolean;
  restart?: string;
  pids_limit?: number;
  stop_grace_period?: string;
  ports?: string[];
  networks?: string[];
  environment?: Record<string, string>;
  secrets?: string[];
  volumes?: string[];
  depends_on?: Record<string, { condition: string }>;
  healthcheck?: { test?: string[]; disable?: boolean };
  privileged?: boolean;
};
type Compose = {
  name: string;
  services: Record<string, Service>;
  networks: Record<string, { internal?: boolean }>;
  volumes: Record<string, object>;
  secrets: Record<string, { file: string }>;
};

const deploy = join(root, 'deploy');
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8');
const compose = readYaml(read('compose.yaml')) as unknown as Compose;
const services = Object.entries(compose.services);
const OWN = { gateway: gatewayEnv, tokenizer: tokenizerEnv, engine: engineEnv, audit: auditEnv, tools: toolsEnv };
/** What a container's sandboxes need, and no other container has. */
const SANDBOX_OPTIONS = ['seccomp=unconfined', 'apparmor=unconfined', 'systempaths=unconfined'];
/** Keys of a service that the compose specification has and we use. */
const KEYS = new Set(
  (
    'image build command entrypoint init user read_only tmpfs cap_drop cap_add security_opt pids_limit mem_limit restart ' +
    'stop_grace_period networks network_mode ports environment secrets volumes depends_on healthcheck shm_size deploy'
  ).split(' '),
);

test('every part that is named exists', () => {
  for (const [name, service] of services) {
    for (const key of Object.keys(service)) assert.ok(KEYS.has(key), `${name}: unknown key ${key}`);
    for (const network of service.networks ?? []) assert.ok(compose.networks[network], `${name}: network ${network}`);
    for (const secret of service.secrets ?? []) assert.ok(compose.secrets[secret], `${name}: secret ${secret}`);
    for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
      const needed = compose.services[other];
      assert.ok(needed, `${name} waits for ${other}`);
      if (condition === 'service_healthy') assert.ok(needed.healthcheck?.test, `${other} has no healthcheck`);
    }
    for (const volume of service.volumes ?? []) {
      const [source = '', , mode] = volume.split(':');
      if (!source.startsWith('.')) assert.ok(compose.volumes[source], `${name}: volume ${source}`);
      else {
        assert.equal(mode, 'ro', `${name}: ${volume} is not read-only`);
        const isSecret = source.startsWith('./secrets/');
        assert.ok(isSecret || existsSync(join(deploy, source)), `${name}: ${source} is not in the tree`);
      }
    }
  }
  const used = (pick: (service: Service) => string[]): Set<string> => new Set(services.flatMap(([, one]) => pick(one)));
  assert.deepEqual(
    used((one) => one.secrets ?? []),
    new Set(Object.keys(compose.secrets)),
  );
  assert.deepEqual(
    used((one) => one.networks ?? []),
    new Set(Object.keys(compose.networks)),
  );
});

test('containers run as nobody special, change nothing but their volumes, and are published on loopback only', () => {
  for (const [name, service] of services) {
    assert.equal(service.read_only, true, `${name}: read_only`);
    assert.deepEqual(service.cap_drop, ['ALL'], `${name}: cap_drop`);
    const opened = name === 'tools' ? SANDBOX_OPTIONS : [];
    assert.deepEqual(service.security_opt, ['no-new-privileges:true', ...opened], name);
    assert.match(service.image, /^[a-z0-9./-]+:(?!latest$)[\w.-]+$/, `${name}: a version of its image`);
    for (const port of service.ports ?? []) assert.match(port, /^127\.0\.0\.1:\d+:\d+$/, name);
    if (name === 'volumes-owner') {
      assert.deepEqual(service.cap_add, ['CHOWN']);
      continue;
    }
    assert.equal(service.cap_add, undefined, name);
    assert.match(service.user ?? '', /^[1-9]\d*:[1-9]\d*$/, `${name}: user`);
    assert.equal(service.init, true, `${name}: init`);
    assert.equal(service.restart, 'unless-stopped', name);
    assert.ok((service.pids_limit ?? 0) > 0, `${name}: pids_limit`);
    assert.match(service.stop_grace_period ?? '', /^\d+s$/, name);
    if (name !== 'jaeger') assert.ok(service.healthcheck?.test?.length, `${name}: healthcheck`); // its image has no tool
  }
  for (const name of ['mesh', 'events', 'telemetry']) assert.equal(compose.networks[name]?.internal, true, name);
});

test("our services' variables exist, their secrets come from files, their addresses meet", () => {
  for (const [name, spec] of Object.entries(OWN)) {
    const { environment = {}, command, secrets = [] } = compose.services[name] as Service;
    const fields = new Map(Object.values(spec).map((field) => [field.name, field]));
    assert.deepEqual(command, [...(NODE_OPTIONS_OF[name] ?? []), `services/${name}/main.ts`]);
    const malloc = Object.entries(environment).filter(([variable]) => variable.startsWith('MALLOC_'));
    assert.deepEqual(Object.fromEntries(malloc), name === 'tools' ? TOOLS_MALLOC_ENV : {}, name);
    for (const [variable, value] of Object.entries(environment)) {
      if (variable.startsWith('MALLOC_')) continue;
      const field = fields.get(variable);
      assert.ok(field, `${name} does not read ${variable}`);
      if (value.startsWith('/run/secrets/')) {
        assert.ok(
          secrets.includes(value.slice('/run/secrets/'.length)),
          `${name}: ${variable} names a secret it lacks`,
        );
        continue;
      }
      assert.ok(!field.secret, `${name}: ${variable} is a secret in the environment`);
      assert.ok(field.parse(value).ok, `${name}: ${variable}=${value}`);
    }
    for (const field of fields.values()) {
      if (field.fallback === undefined) assert.ok(environment[field.name], `${name} needs ${field.name}`);
    }
  }
  const gateway = compose.services.gateway?.environment ?? {};
  const listens = (service: string, variable: string): string =>
    String(compose.services[service]?.environment?.[variable]).replace('0.0.0.0', service);
  assert.equal(gateway.QUERN_GATEWAY_TOKENIZER, listens('tokenizer', 'QUERN_TOKENIZER_LISTEN'));
  assert.equal(gateway.QUERN_GATEWAY_ENGINES, `quern-mini=${listens('engine', 'QUERN_ENGINE_LISTEN')}`);
  assert.equal(gateway.QUERN_AUDIT_ADDRESS, listens('audit', 'QUERN_AUDIT_LISTEN'));
  assert.equal(gateway.QUERN_TOOLS_ADDRESS, listens('tools', 'QUERN_TOOLS_LISTEN'));
});

test('each of our services has the volumes of the folders that it names and no more; the signing key is the audit service’s', () => {
  const mounted = (name: string): Map<string, string> => {
    const words = (compose.services[name]?.volumes ?? []).map((volume) => volume.split(':'));
    return new Map(words.map(([source = '', target = '']) => [target, source]));
  };
  for (const name of Object.keys(OWN)) {
    const folders = Object.values(compose.services[name]?.environment ?? {})
      .filter((value) => /^\/(?!run\/secrets\/|app\/)/.test(value))
      .map((value) => `/${value.split('/')[1]}`);
    assert.deepEqual([...mounted(name).keys()].sort(), [...new Set(folders)].sort(), name);
  }
  const { QUERN_AUDIT_SIGNING_KEY_DIR: folder = '', QUERN_AUDIT_KEY_DIR: keys = '' } =
    compose.services.audit?.environment ?? {};
  const signing = mounted('audit').get(folder);
  assert.ok(signing !== undefined && signing !== mounted('audit').get(keys));
  const holders = services.filter(([, { volumes = [] }]) => volumes.some((volume) => volume.startsWith(`${signing}:`)));
  assert.deepEqual(
    holders.map(([name]) => name),
    ['audit'],
  );
  // A volume belongs to whom the image gave its folder to.
  const [, made = ''] = /install -d -o 10001 .*-m 0700 (.+)$/m.exec(read('docker/Dockerfile')) ?? [];
  for (const name of Object.keys(OWN)) {
    for (const target of mounted(name).keys()) assert.ok(made.split(' ').includes(target), `${name}: ${target}`);
  }
});

test('Prometheus scrapes what listens, and can reach it', () => {
  const { scrape_configs: jobs } = readYaml(read('prometheus/prometheus.yml')) as unknown as {
    scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[];
  };
  const own = jobs.filter(({ job_name: job }) => job.startsWith('quern-'));
  assert.deepEqual(
    own.flatMap(({ static_configs: groups }) => groups.flatMap(({ targets }) => targets)),
    ['gateway:8000', 'tokenizer:9152', 'engine:9153', 'audit:9155', 'tools:9154'],
  );
  const ports = { gateway: 8000, tokenizer: 9152, engine: 9153, audit: 9155, tools: 9154 };
  for (const [name, port] of Object.entries(ports)) {
    const { environment = {}, networks = [], healthcheck } = compose.services[name] as Service;
    assert.ok(Object.values(environment).includes(`0.0.0.0:${port}`), `${name} does not listen on ${port}`);
    assert.ok(
      networks.some((network) => compose.services.prometheus?.networks?.includes(network)),
      name,
    );
    assert.match(String(healthcheck?.test?.at(-1)), new RegExp(`^http://127.0.0.1:${port}/`));
  }
});

test('Jaeger: every component of a pipeline is declared, and every declared one is used', () => {
  type Config = Record<
    'receivers' | 'processors' | 'exporters' | 'connectors' | 'extensions',
    Record<string, unknown>
  > & {
    service: { extensions: string[]; pipelines: Record<string, Record<string, string[]>> };
  };
  const config = readYaml(read('jaeger/config.yaml')) as unknown as Config;
  const used = new Map<string, Set<string>>();
  for (const pipeline of Object.values(config.service.pipelines)) {
    for (const [kind, names] of Object.entries(pipeline)) {
      for (const name of names) {
        const where = config.connectors[name] ? 'connectors' : (kind as keyof Config);
        assert.ok(Object.hasOwn(config[where], name), `${kind}: ${name} is not declared`);
        used.set(where, (used.get(where) ?? new Set()).add(name));
      }
    }
  }
  used.set('extensions', new Set(config.service.extensions));
  for (const kind of ['receivers', 'processors', 'exporters', 'connectors', 'extensions'] as const) {
    assert.deepEqual(new Set(Object.keys(config[kind])), used.get(kind), kind);
  }
});

test('the Dockerfile: targets that run as 10001, pinned bases, no downloads but by package managers', () => {
  const dockerfile = read('docker/Dockerfile');
  const stages = [...dockerfile.matchAll(/^FROM (\S+) AS (\S+)$/gm)].map((match) => ({
    from: match[1],
    name: match[2],
  }));
  const names = stages.map(({ name }) => name);
  for (const target of ['cpu', 'cuda', 'tools']) {
    assert.equal(stages.find(({ name }) => name === target)?.from, 'runtime');
  }
  for (const { from } of stages)
    assert.ok(/^\$\{BASE\}$/.test(String(from)) || names.includes(from), `${from} is not pinned`);
  assert.match(dockerfile, /^ARG BASE=node:24-\w+/m);
  assert.match(dockerfile, /^USER 10001:10001$/m);
  assert.match(dockerfile, /^HEALTHCHECK /m);
  const command = JSON.parse(/^CMD (.*)$/m.exec(dockerfile)?.[1] ?? '[]');
  assert.deepEqual(command, [...(NODE_OPTIONS_OF.gateway ?? []), 'services/gateway/main.ts']);
  assert.doesNotMatch(dockerfile, /^ADD |curl|wget|:latest/m);
  for (const [, step] of dockerfile.matchAll(/^RUN ((?:.*\\\n)*.*)/gm)) {
    if (step?.includes('apt-get install')) assert.match(step, /rm -rf \/var\/lib\/apt\/lists/);
  }
  const listed = read('docker/Dockerfile.dockerignore').split('\n');
  for (const [, paths] of dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)) {
    for (const path of (paths as string).split(' ')) {
      assert.ok(existsSync(join(root, path)), `COPY ${path}: not in the tree`);
      assert.ok(
        listed.some((line) => line === `!${path}`),
        `COPY ${path}: .dockerignore leaves it out`,
      );
    }
  }
});

test('the healthcheck of the images', async (t) => {
  let status = 200;
  const server = createServer((_, response) => response.writeHead(status).end());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
  const { spawn } = await import('node:child_process');
  const check = (target: string): Promise<number | null> =>
    new Promise((resolve) => {
      spawn(process.execPath, [join(deploy, 'docker/healthcheck.mjs'), target], { stdio: 'ignore' }).once(
        'exit',
        resolve,
      );
    });
  assert.equal(await check(url), 0);
  status = 503;
  assert.equal(await check(url), 1);
  assert.equal(await check('http://127.0.0.1:9/'), 1);
});

test('make-secrets makes every secret once, for the containers to read and nobody else', (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'quern-secrets-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const run = (): string =>
    execFileSync(process.execPath, [join(deploy, 'make-secrets.mjs'), folder], { encoding: 'utf8' });
  run();
  const files = Object.values(compose.secrets).map(({ file }) => file.replace('./secrets/', ''));
  for (const name of [...files, 'nats-users.conf', 'admin-key']) {
    assert.equal(statSync(join(folder, name)).mode & 0o007, 0, `${name} is open to everybody`);
  }
  const before = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'));
  assert.doesNotMatch(run(), /^made /m);
  assert.deepEqual(
    readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8')),
    before,
  );
});
