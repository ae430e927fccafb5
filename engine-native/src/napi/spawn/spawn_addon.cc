// The functions by which the tool service starts bubblewrap. services/tools/jail/program.ts is the contract's other side and
// the only caller.
//
//   missing() -> null | text               listen(onEnd(id, code, signal))
//   start(path, argv, env, descriptors, takesInput) -> Int32Array [id, pid, fd 0, fd 1, ...]   Error with code (ENOENT)
//   signal(id, number) -> boolean
//
// A program's end is the readability of its pidfd, which Node's own event loop polls: no thread, and no SIGCHLD, whose
// handler is libuv's and reaps only what libuv has started. code is -1 where a signal has ended the program. The event loop
// stays alive as long as a program does.
#include <uv.h>

#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/check.h"
#include "napi/napi_env.h"
#include "napi/spawn/program_start.h"

namespace quern {
namespace {

class Programs;

struct Running {
  uv_poll_t poll;  // its data is this
  Programs* programs = nullptr;
  int32_t id = 0;
  OwnedFd pidfd;
};

// The programs of one environment. Deletes itself when the environment goes away; its programs are then nobody's: they
// run on, as those of Node do, and whoever inherits this process's children reaps them.
//
// Thread safety: the environment's thread.
class Programs {
 public:
  static Programs* of(Napi::Env env) { return env.GetInstanceData<Programs>(); }

  // Null with a pending exception where the environment has no event loop.
  static Programs* make(Napi::Env env) {
    uv_loop_t* loop = nullptr;
    if (napi_get_uv_event_loop(env, &loop) != napi_ok) return nullptr;
    auto programs = std::unique_ptr<Programs>(new Programs(env, loop));
    if (napi_add_async_cleanup_hook(env, clean_up, programs.get(), &programs->hook_) != napi_ok) return nullptr;
    env.SetInstanceData<Programs, keep>(programs.get());
    return programs.release();
  }

  void listen(Napi::Function on_end) { on_end_ = Napi::Persistent(on_end); }

  // 0 and the number of the program here, or an errno. What is started is watched from here on.
  int start(const ProgramOrder& order, StartedProgram* started, int32_t* id) {
    if (const int mistake = start_program(order, started); mistake != 0) return mistake;
    auto running = std::make_unique<Running>();
    running->programs = this;
    running->pidfd = std::move(started->pidfd);
    running->id = *id = ++last_id_;
    if (const int refused = uv_poll_init(loop_, &running->poll, running->pidfd.get()); refused != 0) {
      abandon_program(started->pid);  // the kernel watches only so many descriptors for one account
      return -refused;
    }
    running->poll.data = running.get();
    CHECK(uv_poll_start(&running->poll, UV_READABLE, on_readable) == 0, "a pidfd can be polled");
    running_.emplace(*id, running.release());
    return 0;
  }

  bool signal(int32_t id, int number) const {
    const auto found = running_.find(id);
    return found != running_.end() && signal_program(found->second->pidfd, number);
  }

 private:
  Programs(Napi::Env env, uv_loop_t* loop) : env_(env), loop_(loop), context_(env, "quern:program") {}
  static void keep(Napi::Env, Programs*) {}  // clean_up's to delete, which comes before or after

  static void on_readable(uv_poll_t* poll, int, int) {
    auto* running = static_cast<Running*>(poll->data);
    const ProgramEnd end = reap_program(running->pidfd);
    if (!end.ended) return;
    Programs* programs = running->programs;
    const int32_t id = running->id;
    programs->running_.erase(id);
    forget(running);
    programs->tell(id, end);
  }

  static void forget(Running* running) {
    ++running->programs->closing_;
    uv_close(reinterpret_cast<uv_handle_t*>(&running->poll), [](uv_handle_t* handle) {
      auto* closed = static_cast<Running*>(handle->data);
      Programs* programs = closed->programs;
      delete closed;
      --programs->closing_;
      programs->end_if_over();
    });
    running->pidfd.reset();  // uv_close has let go of it
  }

  void tell(int32_t id, const ProgramEnd& end) {
    if (on_end_.IsEmpty()) return;
    const Napi::HandleScope scope(env_);
    const napi_value arguments[] = {Napi::Number::New(env_, id), Napi::Number::New(env_, end.code),
                                    Napi::Number::New(env_, end.signal)};
    on_end_.MakeCallback(env_.Global(), 3, arguments, context_);
    if (env_.IsExceptionPending()) napi_fatal_exception(env_, env_.GetAndClearPendingException().Value());
  }

  static void clean_up(napi_async_cleanup_hook_handle, void* self) {
    auto* programs = static_cast<Programs*>(self);
    programs->is_over_ = true;
    const auto running = std::move(programs->running_);
    for (const auto& [id, one] : running) forget(one);
    programs->end_if_over();
  }

  void end_if_over() {
    if (!is_over_ || closing_ > 0) return;
    const napi_async_cleanup_hook_handle hook = hook_;
    delete this;
    napi_remove_async_cleanup_hook(hook);
  }

  Napi::Env env_;
  uv_loop_t* loop_;
  Napi::AsyncContext context_;
  Napi::FunctionReference on_end_;
  napi_async_cleanup_hook_handle hook_ = nullptr;
  std::unordered_map<int32_t, Running*> running_;
  int32_t last_id_ = 0;
  int closing_ = 0;  // handles whose close callback is still to come
  bool is_over_ = false;
};

Napi::Value type_error(Napi::Env env, const char* message) {
  Napi::TypeError::New(env, message).ThrowAsJavaScriptException();
  return env.Undefined();
}

// False with a pending TypeError: not an array of texts without NUL.
bool read_texts(Napi::Value value, std::vector<std::string>* texts) {
  const Napi::Env env = value.Env();
  if (value.IsArray()) {
    const auto array = value.As<Napi::Array>();
    const uint32_t count = array.Length();
    for (uint32_t i = 0; i < count; ++i) {
      const Napi::Value text = array.Get(i);
      if (!text.IsString()) break;
      texts->push_back(text.As<Napi::String>().Utf8Value());
      if (texts->back().find('\0') != std::string::npos) break;
    }
    if (texts->size() == count && (count == 0 || texts->back().find('\0') == std::string::npos)) return true;
  }
  type_error(env, "start: expected arguments and environment as arrays of texts without NUL");
  return false;
}

Napi::Value start(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 5 || !info[0].IsString() || !info[3].IsNumber() || !info[4].IsBoolean()) {
    return type_error(env, "start: expected (path, arguments, environment, descriptors, takesInput)");
  }
  ProgramOrder order;
  order.path = info[0].As<Napi::String>().Utf8Value();
  order.descriptors = info[3].As<Napi::Number>().Int32Value();
  order.takes_input = info[4].As<Napi::Boolean>().Value();
  if (!read_texts(info[1], &order.arguments) || !read_texts(info[2], &order.environment)) return env.Undefined();
  if (order.arguments.empty() || order.descriptors < 3 || order.descriptors > kDescriptorsMax) {
    return type_error(env, "start: expected at least one argument, and 3 to 16 descriptors");
  }
  StartedProgram started;
  int32_t id = 0;
  if (const int mistake = Programs::of(env)->start(order, &started, &id); mistake != 0) {
    Napi::Error error = Napi::Error::New(env, std::strerror(mistake));
    error.Set("code", uv_err_name(-mistake));
    error.ThrowAsJavaScriptException();
    return env.Undefined();
  }
  Napi::Int32Array numbers = Napi::Int32Array::New(env, 2 + started.sockets.size());
  numbers[0] = id;
  numbers[1] = started.pid;
  for (size_t i = 0; i < started.sockets.size(); ++i) numbers[2 + i] = started.sockets[i].release();
  return numbers;
}

Napi::Value signal(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  if (info.Length() != 2 || !info[0].IsNumber() || !info[1].IsNumber()) {
    return type_error(env, "signal: expected (id, number)");
  }
  const int number = info[1].As<Napi::Number>().Int32Value();
  return Napi::Boolean::New(env, Programs::of(env)->signal(info[0].As<Napi::Number>().Int32Value(), number));
}

Napi::Value listen(const Napi::CallbackInfo& info) {
  if (info.Length() != 1 || !info[0].IsFunction()) return type_error(info.Env(), "listen: expected a function");
  Programs::of(info.Env())->listen(info[0].As<Napi::Function>());
  return info.Env().Undefined();
}

Napi::Value missing(const Napi::CallbackInfo& info) {
  const char* call = missing_pidfd_call();
  return call == nullptr ? info.Env().Null() : Napi::String::New(info.Env(), call).As<Napi::Value>();
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  if (Programs::make(env) == nullptr) {
    Napi::Error::New(env, "this environment has no event loop").ThrowAsJavaScriptException();
    return exports;
  }
  exports.Set("missing", Napi::Function::New(env, missing, "missing"));
  exports.Set("listen", Napi::Function::New(env, listen, "listen"));
  exports.Set("start", Napi::Function::New(env, start, "start"));
  exports.Set("signal", Napi::Function::New(env, signal, "signal"));
  return exports;
}

}  // namespace
}  // namespace quern

static Napi::Object init_spawn_addon(Napi::Env env, Napi::Object exports) { return quern::init(env, exports); }
NODE_API_MODULE(spawn_addon, init_spawn_addon)
