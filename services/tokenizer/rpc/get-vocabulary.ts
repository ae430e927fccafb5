// GetVocabulary: bytes and flags of every id, in messages of a few thousand.
import { SamplingParams } from '#gen/quern/common/v1/common.ts';
import type {
  GetVocabularyRequest,
  GetVocabularyResponse,
  VocabularyPiece,
} from '#gen/quern/tokenizer/v1/tokenizer.ts';
import type { Out } from '#kit/rpc/server.ts';
import type { TokenizerContext } from '../context.ts';
import { VOCABULARY_PIECES_PER_MESSAGE } from '../limits.ts';
import type { LoadedModel } from '../loaded-model.ts';
import { ADDED, bytesOfId, SPECIAL, UNUSED, type Vocabulary } from '../vocabulary.ts';

function piece(vocabulary: Vocabulary, id: number): VocabularyPiece {
  const flags = vocabulary.flags[id]!;
  const bytes = bytesOfId(vocabulary, id);
  return {
    bytes: Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength),
    special: (flags & SPECIAL) !== 0,
    added: (flags & ADDED) !== 0,
    unused: (flags & UNUSED) !== 0,
  };
}

/** The header fields stand in the first message only. */
function header(model: LoadedModel): Omit<GetVocabularyResponse, 'pieces'> {
  const { vocabulary } = model.tokenizer;
  return {
    contentHash: vocabulary.contentHash,
    size: vocabulary.size,
    eosTokenIds: [...model.eosTokenIds],
    chatTemplateHash: model.chatTemplateHash,
    fimFamily: model.infill?.family.name ?? '',
    fimOrder: model.infill?.family.order,
    infillPromptTokens: (model.infill && model.infillPromptTokens) ?? undefined,
    defaultSampling: { ...SamplingParams.decode(new Uint8Array()), ...model.samplingDefaults },
    toolParser: model.outputFormat.toolParser ?? '',
    reasoningParser: model.outputFormat.reasoningParser ?? '',
  };
}

const NO_HEADER = {
  contentHash: '',
  size: 0,
  eosTokenIds: [],
  chatTemplateHash: '',
  fimFamily: '',
  toolParser: '',
  reasoningParser: '',
};

export async function getVocabulary(
  context: TokenizerContext,
  request: GetVocabularyRequest,
  out: Out<GetVocabularyResponse>,
): Promise<void> {
  const model = context.models.get(request.model);
  const { vocabulary } = model.tokenizer;
  let first = 0;
  do {
    const last = Math.min(first + VOCABULARY_PIECES_PER_MESSAGE, vocabulary.size);
    const pieces: VocabularyPiece[] = [];
    for (let id = first; id < last; id += 1) pieces.push(piece(vocabulary, id));
    if (!out.write({ ...(first === 0 ? header(model) : NO_HEADER), pieces })) await out.drained();
    first = last;
  } while (first < vocabulary.size);
}
