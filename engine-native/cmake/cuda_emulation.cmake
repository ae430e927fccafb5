# backend/cuda compiled by the C++ compiler against test/native/cuda_emulation, which comes first on the include path.
set(emulation_dir "${QUERN_TEST_DIR}/cuda_emulation")
file(GLOB cuda_sources CONFIGURE_DEPENDS "${QUERN_SOURCE_DIR}/backend/cuda/*.cu")
add_library(backend_cuda STATIC ${cuda_sources} "${emulation_dir}/run_grid.cc")
set_source_files_properties(${cuda_sources} PROPERTIES LANGUAGE CXX COMPILE_OPTIONS "-xc++")
target_include_directories(backend_cuda BEFORE PRIVATE "${emulation_dir}")
target_compile_options(backend_cuda PRIVATE -Wno-unknown-pragmas)
target_link_libraries(backend_cuda PUBLIC engine_settings)
