# The CUDA backend. Works with CMake 3.25, which knows no CUDA20 dialect for nvcc: the standard is passed by hand and
# CUDA_STANDARD stays unset. cudart is linked statically, so the result starts on machines without a driver.
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  set(CMAKE_CUDA_ARCHITECTURES 90-real)
endif()
if(NOT DEFINED CMAKE_CUDA_RUNTIME_LIBRARY)
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
endif()
enable_language(CUDA)

file(GLOB cuda_sources CONFIGURE_DEPENDS "${QUERN_SOURCE_DIR}/backend/cuda/*.cu" "${QUERN_SOURCE_DIR}/backend/cuda/*.cc")
add_library(backend_cuda STATIC ${cuda_sources} "${QUERN_EMPTY_SOURCE}")
set_target_properties(backend_cuda PROPERTIES CUDA_STANDARD_REQUIRED OFF CUDA_SEPARABLE_COMPILATION OFF)
target_compile_options(backend_cuda PRIVATE
  "$<$<COMPILE_LANGUAGE:CUDA>:-std=c++20>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Werror=all-warnings>"
  "$<$<COMPILE_LANGUAGE:CUDA>:--fmad=true>"
  "$<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra,-Werror,-fno-exceptions,-fno-rtti,-fvisibility=hidden>")
target_compile_definitions(backend_cuda INTERFACE QUERN_CUDA=1)  # tests: which refusal to expect
target_link_libraries(backend_cuda PUBLIC engine_settings)
