# Objects compiled for AVX2 or AVX-512 may share no inline function or template with the rest: the linker keeps one copy
# of each weak symbol, and an AVX-512 copy of a std:: function would kill the process on a smaller machine. Allowed are
# templates over a Lanes type of their own. Arguments: NM, ARCHIVE.
execute_process(COMMAND "${NM}" -C --defined-only "${ARCHIVE}" OUTPUT_VARIABLE listing COMMAND_ERROR_IS_FATAL ANY)
string(REPLACE ";" "," listing "${listing}")
string(REPLACE "[" "(" listing "${listing}")
string(REPLACE "]" ")" listing "${listing}")
string(REPLACE "\n" ";" lines "${listing}")
set(object "")
foreach(line IN LISTS lines)
  if(line MATCHES "^([^ ]+\\.o):$")
    set(object "${CMAKE_MATCH_1}")
  elseif(object MATCHES "_(avx2|avx512|avx512bf16)\\." AND line MATCHES " [WVu] " AND NOT line MATCHES "Lanes(Avx2|Avx512)")
    message(FATAL_ERROR "${object} defines a symbol that the linker may share with other files:\n  ${line}\n"
                        "Keep what an ISA file uses in an unnamed namespace, static, or always_inline.")
  endif()
endforeach()
