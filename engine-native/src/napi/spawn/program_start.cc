#include "napi/spawn/program_start.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/check.h"

// Numbers that all architectures share, for C libraries older than the calls.
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

namespace quern {
namespace {

constexpr auto kWaitPidfd = static_cast<idtype_t>(3);  // P_PIDFD, which glibc has since 2.36

int pidfd_open(pid_t pid) { return static_cast<int>(syscall(SYS_pidfd_open, pid, 0)); }

int pidfd_send_signal(int pidfd, int signal) {
  return static_cast<int>(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

int wait_pidfd(int pidfd, siginfo_t* info) {
  int result = 0;
  do {
    result = waitid(kWaitPidfd, static_cast<id_t>(pidfd), info, WEXITED | WNOHANG);
  } while (result < 0 && errno == EINTR);
  return result;
}

// Both ends close on exec. The program's end is numbered above all that it is going to be: dup2 would close what lies there.
int make_pair(OwnedFd* ours, OwnedFd* theirs) {
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0) return errno;
  ours->reset(fds[0]);
  theirs->reset(fds[1]);
  if (theirs->get() >= kDescriptorsMax) return 0;
  OwnedFd above(fcntl(theirs->get(), F_DUPFD_CLOEXEC, kDescriptorsMax));
  if (!above.ok()) return errno;
  *theirs = std::move(above);
  return 0;
}

// What the child does between its start and exec, as posix_spawn wants it told.
class ChildSteps {
 public:
  ChildSteps() {
    CHECK(posix_spawn_file_actions_init(&actions_) == 0 && posix_spawnattr_init(&attributes_) == 0, "out of memory");
  }
  ~ChildSteps() {
    posix_spawn_file_actions_destroy(&actions_);
    posix_spawnattr_destroy(&attributes_);
  }
  ChildSteps(const ChildSteps&) = delete;
  ChildSteps& operator=(const ChildSteps&) = delete;

  void own_session_and_signals() {
    sigset_t none, all;
    sigemptyset(&none);
    // Not sigfillset, which leaves out the C library's own two: those would stay ignored, in every program down the line.
    std::memset(&all, 0xff, sizeof(all));
    note(posix_spawnattr_setsigmask(&attributes_, &none));
    note(posix_spawnattr_setsigdefault(&attributes_, &all));
    note(posix_spawnattr_setflags(&attributes_, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF));
    note(posix_spawn_file_actions_addchdir_np(&actions_, "/"));
  }
  void null_input() { note(posix_spawn_file_actions_addopen(&actions_, 0, "/dev/null", O_RDONLY, 0)); }
  void descriptor(int fd, int number) { note(posix_spawn_file_actions_adddup2(&actions_, fd, number)); }
  // Also what another thread, or a library, has opened without close-on-exec.
  void close_from([[maybe_unused]] int number) {
#ifdef __GLIBC_PREREQ
#if __GLIBC_PREREQ(2, 34)
    note(posix_spawn_file_actions_addclosefrom_np(&actions_, number));
#endif
#endif
  }

  // The first mistake that was made in telling, else what comes of the start.
  int start(const ProgramOrder& order, pid_t* pid) const {
    if (mistake_ != 0) return mistake_;
    const auto pointers = [](const std::vector<std::string>& texts) {
      std::vector<char*> out;
      for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));  // exec does not write to them
      out.push_back(nullptr);
      return out;
    };
    const std::vector<char*> argv = pointers(order.arguments);
    const std::vector<char*> envp = pointers(order.environment);
    return posix_spawn(pid, order.path.c_str(), &actions_, &attributes_, argv.data(), envp.data());
  }

 private:
  void note(int result) {
    if (mistake_ == 0) mistake_ = result;
  }

  posix_spawn_file_actions_t actions_;
  posix_spawnattr_t attributes_;
  int mistake_ = 0;
};

}  // namespace

void OwnedFd::reset(int fd) {
  if (fd_ >= 0) close(fd_);
  fd_ = fd;
}

int start_program(const ProgramOrder& order, StartedProgram* started) {
  CHECK(order.descriptors >= 3 && order.descriptors <= kDescriptorsMax && !order.arguments.empty(), "a whole order");
  ChildSteps steps;
  std::vector<OwnedFd> ours(static_cast<size_t>(order.descriptors)), theirs(ours.size());
  steps.own_session_and_signals();
  if (!order.takes_input) steps.null_input();
  for (int number = order.takes_input ? 0 : 1; number < order.descriptors; ++number) {
    const auto at = static_cast<size_t>(number);
    if (const int mistake = make_pair(&ours[at], &theirs[at]); mistake != 0) return mistake;
    steps.descriptor(theirs[at].get(), number);
  }
  steps.close_from(order.descriptors);
  pid_t pid = -1;
  if (const int mistake = steps.start(order, &pid); mistake != 0) return mistake;
  // It is not reaped before somebody asks for it here, so that the number is still its own.
  OwnedFd pidfd(pidfd_open(pid));
  if (!pidfd.ok()) {
    const int mistake = errno;
    abandon_program(pid);
    return mistake;
  }
  *started = {pid, std::move(pidfd), std::move(ours)};
  return 0;
}

void abandon_program(pid_t pid) {
  kill(pid, SIGKILL);
  while (waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

const char* missing_pidfd_call() {
  const OwnedFd self(pidfd_open(getpid()));
  if (!self.ok()) return "pidfd_open";
  if (pidfd_send_signal(self.get(), 0) != 0) return "pidfd_send_signal";
  // This process is no child of its own: ECHILD. A kernel before Linux 5.4 says EINVAL.
  siginfo_t info = {};
  if (wait_pidfd(self.get(), &info) != 0 && errno != ECHILD) return "waitid(P_PIDFD)";
  return nullptr;
}

bool signal_program(const OwnedFd& pidfd, int signal) { return pidfd_send_signal(pidfd.get(), signal) == 0; }

ProgramEnd reap_program(const OwnedFd& pidfd) {
  siginfo_t info = {};
  ProgramEnd end;
  if (wait_pidfd(pidfd.get(), &info) != 0) {
    end.ended = errno == ECHILD;
    return end;
  }
  if (info.si_pid == 0) return end;
  end.ended = true;
  if (info.si_code == CLD_EXITED) {
    end.code = info.si_status;
  } else {
    end.signal = info.si_status;
  }
  return end;
}

}  // namespace quern
