// The addon's functions. services/engine/native.ts is the contract's other side and the only caller.
//
//   createEngine(options, onBatch, onProgress) -> handle     openEngine(handle) -> Promise<description>
//   submit(handle, id, tokenIds, request) -> null | Error with code     cancel(handle, id)
//   load(handle) -> object     drain(handle)     closeEngine(handle) -> Promise<void>
//
// The handle is a type-tagged object, checked in every call: a foreign object is a TypeError, not a crash.
#include <memory>
#include <string>
#include <utility>

#include "napi/engine_handle.h"
#include "napi/js_reader.h"
#include "napi/napi_env.h"

namespace quern {
namespace {

constexpr napi_type_tag kHandleTag = {0x51756572'6e456e67ULL, 0x696e6548'616e646cULL};

Napi::Value type_error(Napi::Env env, const std::string& message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

// The handle in the first argument; null with a pending TypeError otherwise.
EngineHandle* handle_of(const Napi::CallbackInfo& info) {
  if (info.Length() > 0 && info[0].IsObject()) {
    bool tagged = false;
    void* data = nullptr;
    if (napi_check_object_type_tag(info.Env(), info[0], &kHandleTag, &tagged) == napi_ok && tagged &&
        napi_unwrap(info.Env(), info[0], &data) == napi_ok) {
      return static_cast<EngineHandle*>(data);
    }
  }
  type_error(info.Env(), "handle: expected the result of createEngine");
  return nullptr;
}

// As handle_of, and the engine must be open.
Engine* engine_of(const Napi::CallbackInfo& info) {
  EngineHandle* handle = handle_of(info);
  if (handle == nullptr) return nullptr;
  if (handle->engine() == nullptr) {
    js_error(info.Env(), Status(Code::kUnavailable, "the engine is not open")).ThrowAsJavaScriptException();
    return nullptr;
  }
  return handle->engine();
}

Napi::Value create_engine(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 3 || !info[0].IsObject() || !info[1].IsFunction() || !info[2].IsFunction()) {
    return type_error(env, "createEngine: expected (options, onBatch, onProgress)");
  }
  JsReader reader(info[0].As<Napi::Object>(), "options");
  EngineOptions options;
  options.model_dir = reader.text("modelDir").value_or("");
  options.dtype = reader.text("dtype").value_or(options.dtype);
  options.backend = reader.text("backend").value_or(options.backend);
  options.isa = reader.text("isa").value_or(options.isa);
  options.threads = reader.u32("threads", options.threads);
  options.context_length = reader.u32("contextLength", options.context_length);
  options.kv_bytes = reader.integer("kvBytes", UINT64_MAX).value_or(options.kv_bytes);
  options.block_size = reader.u32("blockSize", options.block_size);
  options.max_num_seqs = reader.u32("maxNumSeqs", options.max_num_seqs);
  options.max_num_batched_tokens = reader.u32("maxNumBatchedTokens", options.max_num_batched_tokens);
  options.max_waiting = reader.u32("maxWaiting", options.max_waiting);
  options.prefix_cache = reader.boolean("prefixCache").value_or(options.prefix_cache);
  if (env.IsExceptionPending()) return env.Undefined();
  if (!reader.mistake().empty()) return type_error(env, reader.mistake());

  auto handle = std::make_unique<EngineHandle>(std::move(options), info[1].As<Napi::Function>(), info[2].As<Napi::Function>());
  Napi::Object wrapper = Napi::Object::New(env);
  const auto finalize = [](napi_env, void* data, void*) { delete static_cast<EngineHandle*>(data); };
  if (napi_wrap(env, wrapper, handle.get(), finalize, nullptr, nullptr) != napi_ok) {
    return type_error(env, "createEngine: the handle could not be wrapped");
  }
  (void)handle.release();  // the wrapper's finalizer owns it
  if (napi_type_tag_object(env, wrapper, &kHandleTag) != napi_ok) {
    return type_error(env, "createEngine: the handle could not be tagged");
  }
  return wrapper;
}

Napi::Value open_engine(const Napi::CallbackInfo& info) {
  EngineHandle* handle = handle_of(info);
  return handle == nullptr ? info.Env().Undefined() : handle->open(info.Env(), info[0].As<Napi::Object>());
}

Napi::Value close_engine(const Napi::CallbackInfo& info) {
  EngineHandle* handle = handle_of(info);
  return handle == nullptr ? info.Env().Undefined() : handle->close(info.Env());
}

void read_sampling(JsReader* reader, SamplingParams* s) {
  s->max_tokens = reader->u32("maxTokens");
  s->min_tokens = reader->u32("minTokens");
  s->temperature = reader->f32("temperature", s->temperature);
  s->top_p = reader->f32("topP", s->top_p);
  s->top_k = reader->u32("topK");
  s->min_p = reader->f32("minP", s->min_p);
  s->repetition_penalty = reader->f32("repetitionPenalty", s->repetition_penalty);
  s->frequency_penalty = reader->f32("frequencyPenalty", s->frequency_penalty);
  s->presence_penalty = reader->f32("presencePenalty", s->presence_penalty);
  s->seed = reader->integer("seed", UINT64_MAX);
  s->stop_token_ids = reader->ids("stopTokenIds");
  s->ignore_eos = reader->boolean("ignoreEos").value_or(false);
  if (const auto value = reader->integer("logprobs", UINT32_MAX)) s->logprobs = static_cast<uint32_t>(*value);
  if (const auto value = reader->integer("promptLogprobs", UINT32_MAX)) s->prompt_logprobs = static_cast<uint32_t>(*value);
  s->n = reader->u32("n", s->n);
  const std::vector<uint32_t> ids = reader->ids("logitBiasIds");
  const std::vector<float> values = reader->floats("logitBiasValues");
  for (size_t i = 0; i < ids.size() && i < values.size(); ++i) s->logit_bias.emplace_back(ids[i], values[i]);
}

Napi::Value submit(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Engine* engine = engine_of(info);
  if (engine == nullptr) return env.Undefined();
  if (info.Length() != 2 || !info[1].IsObject()) return type_error(env, "submit: expected (handle, request)");
  JsReader reader(info[1].As<Napi::Object>(), "request");
  Request request;
  request.id = reader.u32("id");
  request.token_ids = reader.ids("tokenIds");
  request.resume_token_ids = reader.ids("resumeTokenIds");
  read_sampling(&reader, &request.sampling);
  request.tenant = reader.text("tenant").value_or("");
  request.cache_salt = reader.text("cacheSalt").value_or("");
  request.public_prefix_tokens = reader.u32("publicPrefixTokens");
  request.priority_class = static_cast<PriorityClass>(static_cast<uint8_t>(reader.integer("priorityClass", 255).value_or(0)));
  request.priority = reader.signed_integer("priority").value_or(0);
  if (const auto timeout = reader.integer("timeoutMs", UINT32_MAX)) request.timeout_ms = static_cast<uint32_t>(*timeout);
  request.supersede_key = reader.text("supersedeKey").value_or("");
  request.principal = reader.text("principal").value_or("");
  if (env.IsExceptionPending()) return env.Undefined();
  if (!reader.mistake().empty()) return type_error(env, reader.mistake());
  const Status status = engine->submit(std::move(request));
  return status.ok() ? env.Null() : js_error(env, status).Value();
}

Napi::Value cancel(const Napi::CallbackInfo& info) {
  Engine* engine = engine_of(info);
  if (engine == nullptr) return info.Env().Undefined();
  if (info.Length() != 2 || !info[1].IsNumber()) return type_error(info.Env(), "cancel: expected (handle, id)");
  engine->cancel(info[1].As<Napi::Number>().Uint32Value());
  return info.Env().Undefined();
}

Napi::Value drain(const Napi::CallbackInfo& info) {
  Engine* engine = engine_of(info);
  if (engine != nullptr) engine->drain();
  return info.Env().Undefined();
}

Napi::Value load(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Engine* engine = engine_of(info);
  if (engine == nullptr) return env.Undefined();
  const Load load = engine->load();
  Napi::Object out = Napi::Object::New(env);
  const auto number = [&](const char* name, double value) { out.Set(name, Napi::Number::New(env, value)); };
  number("running", load.running);
  number("waiting", load.waiting);
  number("waitingPromptTokens", load.waiting_prompt_tokens);
  number("freeBlocks", load.free_blocks);
  number("cachedBlocks", load.cached_blocks);
  number("numBlocks", load.num_blocks);
  number("generationTokensPerS", static_cast<double>(load.generation_tokens_per_s));
  number("promptTokensPerS", static_cast<double>(load.prompt_tokens_per_s));
  number("steps", static_cast<double>(load.steps));
  out.Set("lastStepUnixNs", Napi::BigInt::New(env, load.last_step_unix_ns));
  number("preemptions", static_cast<double>(load.preemptions));
  number("prefixQueryTokens", static_cast<double>(load.prefix_query_tokens));
  number("prefixHitTokens", static_cast<double>(load.prefix_hit_tokens));
  out.Set("draining", Napi::Boolean::New(env, load.draining));
  return out;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  exports.Set("createEngine", Napi::Function::New(env, create_engine, "createEngine"));
  exports.Set("openEngine", Napi::Function::New(env, open_engine, "openEngine"));
  exports.Set("closeEngine", Napi::Function::New(env, close_engine, "closeEngine"));
  exports.Set("submit", Napi::Function::New(env, submit, "submit"));
  exports.Set("cancel", Napi::Function::New(env, cancel, "cancel"));
  exports.Set("drain", Napi::Function::New(env, drain, "drain"));
  exports.Set("load", Napi::Function::New(env, load, "load"));
  return exports;
}

}  // namespace
}  // namespace quern

static Napi::Object init_engine_addon(Napi::Env env, Napi::Object exports) { return quern::init(env, exports); }
NODE_API_MODULE(engine_addon, init_engine_addon)
