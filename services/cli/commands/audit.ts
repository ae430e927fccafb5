/** `quern audit`: who asked what, and the proof that nothing was changed. */
import { eraseUser } from '../audit/erase.ts';
import { exportRecords } from '../audit/export.ts';
import { followRecords, queryRequests } from '../audit/query.ts';
import { showHead, verifyRecords } from '../audit/verify.ts';
import type { Command } from '../command.ts';
import { runVerb, type Verb } from '../verbs.ts';

const VERBS: Readonly<Record<string, Verb>> = {
  query: queryRequests,
  tail: followRecords,
  export: exportRecords,
  verify: verifyRecords,
  erase: eraseUser,
  head: showHead,
};

export const audit: Command = {
  help: `usage: quern audit query [--user U] [--since 1d] [--until TIME] [--request ID] [--trace ID] [--kind K]
                         [--limit N] [--content] [--wide] [--json]
       quern audit tail [--backlog N] [--json]
       quern audit export [--format jsonl|csv|classic] [--since 1d] [--until TIME] --out FILE
       quern audit verify [EXPORT|FOLDER] [--trusted-checkpoint FILE] [--key KEY] [--json]
       quern audit erase --user U [--yes]
       quern audit head [--note] [--json]

Asks the audit service of the running mesh. TIME is a time ago (90s, 15m, 6h, 1d, 2w) or a date (2026-01-31T12:00:00Z).
Reading, exporting and erasing are recorded themselves.

  query   requests, agent runs and tool calls, newest first: time, user, client address, API key, model or tool, tokens in
          and out, latency (queue, prefill, decode), end, who approved, ids; at a terminal as much of it as fits, with
          --wide or in a pipe all of it; --json has all that the log knows of each;
          --content: with the prompts and answers that the tenant's policy keeps
  tail    records as they reach the ledger, until Ctrl-C
  export  jsonl: the stored bytes of all tenants and FILE.manifest.json, which anybody can verify offline;
          csv, classic: requests of one tenant; classic is [TIMESTAMP] [CLIENT_IP] [USER_ID] [PROMPT] [RESPONSE_LENGTH] [LATENCY]
          in bytes and milliseconds, with "-" for a prompt that is not kept
  verify  the whole ledger through the service, or without any an exported file or the folder of a ledger ("audit" in the state
          folder), as when the service refuses to open it; one word (ok, altered, missing, reordered, truncated, rechained,
          forked, bad_signature, gap) and where; exit code 0 only for ok
  erase   destroys a user's key and pseudonym: the records stay and speak of nobody
  head    how far the log has come; --note prints the signed checkpoint, to be kept elsewhere for --trusted-checkpoint

  --request ID               of a request or run, also as "cmpl-ID" or "chatcmpl-ID", or the execution id of a tool call
  --kind K                   only these: request, agent or tool
  --tenant T                 (default: local, which everyone is without a keys file)
  --address ADDR             unix:///PATH or HOST:PORT of an audit service (default: QUERN_AUDIT_ADDRESS, else the running
                             mesh's); on TCP with QUERN_AUDIT_OPERATOR_TOKEN, and certificates where the mesh has them
  --trusted-checkpoint FILE  a checkpoint that was kept elsewhere, or a witness file: the check that counts
  --key KEY                  the log's public key line, as "quern audit head" prints it`,
  run: async (args, io) => runVerb('audit', VERBS, args, io),
};
