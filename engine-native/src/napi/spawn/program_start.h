// Starting a program without copying this process.
//
// fork() copies the page tables of its caller, which the child's exec throws away, and leaves every page of the caller to
// be copied when it is next written to: milliseconds for a Node of 45 MB. posix_spawn lets the child use the caller's memory
// until it has called exec, and holds up the calling thread for just so long.
//
// Thread safety: any thread; but what a program does about its parent's death (PR_SET_PDEATHSIG) goes by the thread that
// started it.
#pragma once

#include <sys/types.h>

#include <string>
#include <utility>
#include <vector>

namespace quern {

// A descriptor that is closed with its owner. -1: none.
class OwnedFd {
 public:
  OwnedFd() = default;
  explicit OwnedFd(int fd) : fd_(fd) {}
  OwnedFd(OwnedFd&& other) noexcept : fd_(other.release()) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    reset(other.release());
    return *this;
  }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  ~OwnedFd() { reset(); }

  int get() const { return fd_; }
  bool ok() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

struct ProgramOrder {
  std::string path;                       // not looked for on PATH
  std::vector<std::string> arguments;     // the first is argv[0]
  std::vector<std::string> environment;   // name=value
  int descriptors = 3;                    // 0 .. descriptors-1 are stream sockets to this process; it has no others
  bool takes_input = true;                // false: descriptor 0 is /dev/null
};

// Closed on exec, as the other ends are here.
struct StartedProgram {
  pid_t pid = -1;
  OwnedFd pidfd;                          // readable when the program has ended
  std::vector<OwnedFd> sockets;           // by the program's descriptor; none for /dev/null
};

constexpr int kDescriptorsMax = 16;

// In a session of its own, in the folder /, with no signal blocked and none handled or ignored. Returns once exec can fail no
// more, a moment before /proc has the program's name: 0, or the errno with which it failed. The caller reaps it, by its pidfd.
// REQUIRES: 3 <= descriptors <= kDescriptorsMax, at least one argument, no NUL in any text.
int start_program(const ProgramOrder& order, StartedProgram* started);

// What this kernel, or whoever filters its calls, lacks of pidfd_open, pidfd_send_signal and waitid(P_PIDFD); null: nothing.
const char* missing_pidfd_call();

// False: the program has ended. Never reaches another one.
bool signal_program(const OwnedFd& pidfd, int signal);

struct ProgramEnd {
  bool ended = false;
  int code = -1;    // -1: it was ended by `signal`, or somebody else has reaped it
  int signal = 0;
};

// Reaps the program if it has ended; does not wait.
ProgramEnd reap_program(const OwnedFd& pidfd);

// Kills a program that was never reaped, and reaps it: waits for as long as that takes.
void abandon_program(pid_t pid);

}  // namespace quern
