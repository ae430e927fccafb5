import assert from 'node:assert/strict';
import { test } from 'node:test';
import { McpServerState, type ToolsStatus } from '#gen/quern/tools/v1/tools.ts';
import { problemLines, statusText } from '../../../services/cli/tools/status-text.ts';

const STATUS: ToolsStatus = {
  packDir: '/srv/packs',
  policyFile: '',
  problems: [
    { file: 'a.yaml', message: 'has no field "comand" (did you mean "command"?)' },
    { file: '', message: 'the folder cannot be read (EACCES)' },
  ],
  mcpServers: [
    { name: 'files', state: McpServerState.MCP_SERVER_STATE_CONNECTED, tools: 3, problems: [] },
    { name: 'far', state: McpServerState.MCP_SERVER_STATE_FAILED, tools: 0, problems: ['no answer', 'twice'] },
  ],
};

test('below the tools stand the files in use, the servers and every mistake', () => {
  const text = statusText(STATUS, 100);
  assert.match(text, /pack folder {2}\/srv\/packs\npolicy {7}none: the defaults hold\n/);
  assert.match(text, /files +connected +3\n/);
  assert.match(text, /far +failed +0 +no answer; twice\n/);
  assert.match(text, /wrong in packs and policy:\n {2}a\.yaml: has no field "comand".*\n {2}pack folder: the folder/);
});

test('nothing is said of what is not there', () => {
  const quiet = statusText({ ...STATUS, problems: [], mcpServers: [], policyFile: '/etc/policy.yaml' }, 100);
  assert.equal(quiet, '\npack folder  /srv/packs\npolicy       /etc/policy.yaml\n');
  assert.equal(problemLines({ ...STATUS, problems: [] }), '');
});
