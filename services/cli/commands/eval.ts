/** `quern eval`: how good a served model is. */
import type { Command } from '../command.ts';
import { evalCompare } from '../eval/compare-files.ts';
import { evalInfill } from '../eval/infill.ts';
import { runVerb, type Verb } from '../verbs.ts';

const VERBS: Readonly<Record<string, Verb>> = {
  infill: evalInfill,
  compare: evalCompare,
};

export const evaluate: Command = {
  help: `usage: quern eval infill [--model M] [--sources DIR...] [--kind line|span|block] [--holes N] [--seed S]
                         [--out FILE] [--compare FILE] [--json]
       quern eval compare EARLIER LATER [--fail-on-regression] [--json]

infill cuts holes into sources, has the mesh fill them with temperature 0, and measures how near that comes to what was there:
exact match, edit similarity, whether the file parses, and identifiers, each with its interval of 95 %, by language and in all.
The same sources, kind and seed make the same holes. docs/evaluation.md defines every figure.

  --sources DIR         a folder or file of your own, several times for several (default: files of packages that quern-mini was
                        not trained on)
  --kind line           a whole line without its indentation, or its rest from some token on (the default)
  --kind span           a piece within a line, with something of the line on both sides
  --kind block          the 2 to 10 lines of a block
  --holes N             how many (default 200); languages take turns
  --seed S              which (default 1)
  --before N, --after N lines around the hole that are sent (default 255 and 64, as editors do)
  --prompt-tokens N     tokens of a prompt at most, 0 = as the model's folder advises (the default); more than fits is what fits
  --concurrency N       requests at a time, 1..64 (default 2); latency is measured under it
  --out FILE            store the run as JSON lines: settings, model and a line per hole, without source text; each line is there
                        as soon as its hole is done, and a run that was stopped goes on when the same command comes again
  --force               overwrite what is in FILE
  --with-text           with what was there and what came instead
  --compare FILE        differences to an earlier --out over the same holes
  --fail-below M=V      exit code 1 when a figure of all languages is lower: exact, edit_similarity, parses, identifier_exact or
                        identifier_f1; may be given several times
  --fail-on-regression  exit code 1 when --compare finds one clearly worse; both runs need the same settings
  --json                figures and differences as one JSON document
  --model NAME          which model; needed only when several are served
  --gateway ADDR        the mesh's gRPC address, https://HOST:PORT for TLS (default: QUERN_GATEWAY, else that of the
                        running mesh of this state folder, else 127.0.0.1:50051)
  --ca FILE             CAs of a mesh that speaks TLS (default: QUERN_GATEWAY_CA_FILE)
  --api-key KEY         (default: QUERN_API_KEY)

Holes without an answer are told by their reason, are in no figure, and make the exit code 1. Ctrl-C prints the figures of what was
done (130); a second one ends at once. So does a mesh that answers no more (1).`,
  run: async (args, io) => runVerb('eval', VERBS, args, io),
};
