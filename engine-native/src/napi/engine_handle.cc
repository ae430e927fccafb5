#include "napi/engine_handle.h"

#include <array>
#include <cstring>
#include <span>
#include <utility>

#include "napi/pack_step.h"

namespace quern {
namespace {

// Calls a listener. An exception that it throws would be swallowed here; it becomes the process's uncaught exception. Plain
// C calls: in a thread that is being terminated they fail, quietly, at any point.
void call_listener(napi_env env, napi_value listener, std::span<const napi_value> arguments) {
  napi_value global = nullptr;
  if (napi_get_global(env, &global) != napi_ok) return;
  if (napi_call_function(env, global, listener, arguments.size(), arguments.data(), nullptr) == napi_ok) return;
  bool pending = false;
  napi_value thrown = nullptr;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending &&
      napi_get_and_clear_last_exception(env, &thrown) == napi_ok) {
    napi_fatal_exception(env, thrown);
  }
}

// The words as a Uint32Array of JavaScript's own; null when the environment is going away.
napi_value to_uint32_array(napi_env env, std::span<const uint32_t> words) {
  napi_value buffer = nullptr, array = nullptr;
  void* data = nullptr;
  if (napi_create_arraybuffer(env, words.size_bytes(), &data, &buffer) != napi_ok) return nullptr;
  std::memcpy(data, words.data(), words.size_bytes());
  if (napi_create_typedarray(env, napi_uint32_array, words.size(), buffer, 0, &array) != napi_ok) return nullptr;
  return array;
}

Napi::Object describe(Napi::Env env, const ModelInfo& info) {
  Napi::Object out = Napi::Object::New(env);
  const auto text = [&](const char* name, const std::string& value) { out.Set(name, Napi::String::New(env, value)); };
  const auto number = [&](const char* name, double value) { out.Set(name, Napi::Number::New(env, value)); };
  text("architecture", info.architecture);
  text("dtype", info.dtype);
  text("backend", info.backend);
  text("isa", info.isa);
  text("modelHash", info.model_hash);
  number("contextLength", info.context_length);
  number("vocabularySize", info.vocabulary_size);
  number("blockSize", info.block_size);
  number("numBlocks", info.num_blocks);
  number("maxNumSeqs", info.max_num_seqs);
  number("maxNumBatchedTokens", info.max_num_batched_tokens);
  number("maxWaiting", info.max_waiting);
  number("threads", info.threads);
  number("parameterCount", static_cast<double>(info.parameter_count));
  number("weightBytes", static_cast<double>(info.weight_bytes));
  number("kvBytes", static_cast<double>(info.kv_bytes));
  Napi::Array eos = Napi::Array::New(env, info.eos_token_ids.size());
  for (uint32_t i = 0; i < info.eos_token_ids.size(); ++i) eos.Set(i, Napi::Number::New(env, info.eos_token_ids[i]));
  out.Set("eosTokenIds", eos);
  return out;
}

}  // namespace

Napi::Error js_error(Napi::Env env, const Status& status) {
  Napi::Error error = Napi::Error::New(env, status.message());
  error.Set("code", Napi::Number::New(env, static_cast<int>(status.code())));
  return error;
}

EngineHandle::EngineHandle(EngineOptions options, Napi::Function on_batch, Napi::Function on_progress)
    : options_(std::move(options)), on_batch_(Napi::Persistent(on_batch)), on_progress_(Napi::Persistent(on_progress)) {}

EngineHandle::~EngineHandle() { stop_threads(); }

void EngineHandle::wake() {
  if (wake_queued_ || !waker_started_) return;
  // Refused only while the environment closes: then the cleanup hook ends everything and nobody listens any more.
  wake_queued_ = waker_.NonBlockingCall() == napi_ok;
}

void EngineHandle::on_step(const StepOut& step) {
  std::lock_guard lock(mutex_);
  pack_step(step, &pending_);
  wake();
}

Napi::Value EngineHandle::open(Napi::Env env, Napi::Object wrapper) {
  if (state_ != State::kCreated) {
    js_error(env, failed_precondition("open: expected a new engine, this one was opened before")).ThrowAsJavaScriptException();
    return env.Undefined();
  }
  waker_ = Waker::New(env, "quern_engine", 2, 1, this);
  if (env.IsExceptionPending()) return env.Undefined();
  waker_started_ = true;
  // Registered after the waker's own hook, so it runs before it: no wake-up into a closed queue.
  napi_add_env_cleanup_hook(env, clean_up, this);
  state_ = State::kOpening;
  wrapper_ = Napi::Persistent(wrapper);
  open_promise_ = Napi::Promise::Deferred::New(env);
  thread_ = std::thread([this] {
    auto opened = Engine::open(
        options_, [this](const StepOut& step) { on_step(step); },
        [this](const char* phase, uint64_t done, uint64_t total) {
          std::lock_guard lock(mutex_);
          progress_ = Progress{phase, done, total};
          wake();
        });
    std::lock_guard lock(mutex_);
    opened_ = opened.status();
    if (opened.ok()) opened_engine_ = std::move(opened).value();
    wake();
  });
  return open_promise_->Promise();
}

Napi::Value EngineHandle::close(Napi::Env env) {
  const auto deferred = Napi::Promise::Deferred::New(env);
  if (state_ == State::kCreated || state_ == State::kClosed) {
    state_ = State::kClosed;
    deferred.Resolve(env.Undefined());
    return deferred.Promise();
  }
  close_promises_.push_back(deferred);
  if (state_ == State::kOpening) close_after_open_ = true;
  if (state_ == State::kOpen) start_closing();
  return deferred.Promise();
}

void EngineHandle::start_closing() {
  state_ = State::kClosing;
  if (thread_.joinable()) thread_.join();
  thread_ = std::thread([this] {
    engine_->close();
    std::lock_guard lock(mutex_);
    closed_ = true;
    wake();
  });
}

void EngineHandle::call_js(Napi::Env env, Napi::Function, EngineHandle* handle, void*) {
  if (static_cast<napi_env>(env) == nullptr || handle == nullptr) return;  // the environment is closing
  handle->pump(env);
}

void EngineHandle::pump(Napi::Env env) {
  std::optional<Progress> progress;
  std::optional<Status> opened;
  bool closed = false;
  {
    std::lock_guard lock(mutex_);
    wake_queued_ = false;
    progress = std::exchange(progress_, std::nullopt);
    opened = std::exchange(opened_, std::nullopt);
    if (opened_engine_) engine_ = std::move(opened_engine_);
    taken_.clear();
    std::swap(taken_, pending_);
    closed = closed_;
  }
  Napi::HandleScope scope(env);
  if (progress) {
    const std::array<napi_value, 3> arguments{Napi::String::New(env, progress->phase),
                                              Napi::Number::New(env, static_cast<double>(progress->done)),
                                              Napi::Number::New(env, static_cast<double>(progress->total))};
    call_listener(env, on_progress_.Value(), arguments);
  }
  if (opened) settle_open(env, *opened);
  if (!taken_.empty()) {
    const napi_value words = to_uint32_array(env, taken_);
    if (words == nullptr) return;
    call_listener(env, on_batch_.Value(), {&words, 1});
  }
  if (closed && state_ == State::kClosing) finish_close(env);
}

void EngineHandle::settle_open(Napi::Env env, Status status) {
  thread_.join();
  if (status.ok()) {
    state_ = State::kOpen;
    open_promise_->Resolve(describe(env, engine_->info()));
    if (close_after_open_) start_closing();
    return;
  }
  open_promise_->Reject(js_error(env, status).Value());
  finish_close(env);
}

void EngineHandle::finish_close(Napi::Env env) {
  if (thread_.joinable()) thread_.join();
  state_ = State::kClosed;
  engine_.reset();
  napi_remove_env_cleanup_hook(env, clean_up, this);
  {
    std::lock_guard lock(mutex_);
    waker_started_ = false;
  }
  waker_.Release();
  for (const auto& deferred : close_promises_) deferred.Resolve(env.Undefined());
  close_promises_.clear();
  wrapper_.Reset();  // from here on the wrapper may be collected, and this with it
}

void EngineHandle::clean_up(void* self) {
  EngineHandle* handle = static_cast<EngineHandle*>(self);
  {
    std::lock_guard lock(handle->mutex_);
    handle->waker_started_ = false;
  }
  handle->stop_threads();
}

void EngineHandle::stop_threads() {
  if (thread_.joinable()) thread_.join();
  if (opened_engine_) opened_engine_->close();
  if (engine_) engine_->close();
  opened_engine_.reset();
  engine_.reset();
}

}  // namespace quern
