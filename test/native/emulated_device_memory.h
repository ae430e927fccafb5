// The memory of the emulated GPU (cuda_emulation): counted and limited, so that what is sized by it can be tested.
#pragma once

#include <cstddef>

namespace quern::test {

struct EmulatedDeviceMemory {
  size_t total = size_t{8} << 30;  // tests may set it
  size_t used = 0;
};
inline EmulatedDeviceMemory emulated_device_memory;

}  // namespace quern::test
