# emulation_tests: engine_tests with backend/cuda compiled by the C++ compiler against test/native/cuda_emulation, which comes
# first on the include path. Everything else are the object files of engine_tests and engine_core: what an object file defines
# (make_cuda_backend) is not taken out of the library of a build without CUDA.
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64|amd64)$")
  set(emulation_dir "${QUERN_TEST_DIR}/cuda_emulation")
  file(GLOB cuda_sources CONFIGURE_DEPENDS "${QUERN_SOURCE_DIR}/backend/cuda/*.cu")
  add_executable(emulation_tests EXCLUDE_FROM_ALL ${cuda_sources} "${emulation_dir}/run_grid.cc"
    "${QUERN_TEST_DIR}/cuda_backend_test.cc" $<FILTER:$<TARGET_OBJECTS:engine_tests>,EXCLUDE,cuda_backend_test>)
  set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
  target_include_directories(emulation_tests BEFORE PRIVATE "${emulation_dir}" "${QUERN_TEST_DIR}")
  target_include_directories(emulation_tests PRIVATE "${CMAKE_CURRENT_SOURCE_DIR}/tools")
  target_compile_definitions(emulation_tests PRIVATE QUERN_CUDA=1 QUERN_CUDA_EMULATION=1 QUERN_GOLDEN_DIR="${QUERN_ROOT}/test/golden")
  target_compile_options(emulation_tests PRIVATE -Wno-unknown-pragmas)
  target_link_libraries(emulation_tests PRIVATE engine_core)
endif()
