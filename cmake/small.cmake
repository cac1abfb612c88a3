# Release is small: -O2 where the time of reads, appends, commits and cache hits goes, -Oz or -Os everywhere else
# (opening, recovery, checks, what waits for the disk anyway, and functions that say CELLAR_COLD), no tables for
# unwinding, and no pages of padding between what is code and what is not. The other build types, None of distributions
# among them, get their own flags alone.
option(CELLAR_SMALL "Optimise Release for size where that costs no speed" ON)
if(NOT CELLAR_SMALL OR CELLAR_SANITIZE OR CELLAR_COVERAGE)
  return()
endif()
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckLinkerFlag)

set(CELLAR_HOT_SOURCES
    src/writer.c src/reader.c src/snapshot.c
    src/cell/header_store.c src/cell/header_word.c
    src/page/cache.c src/page/cache_read.c src/page/evict_clock.c src/page/evict_sieve.c
    src/page/pipeline.c src/page/table.c)
# Functions that are worth a place in each of their callers say inline themselves, but in the files of checksums, of
# copying to and from cells, of slots and of pending pages: there the compiler chooses.
set(CELLAR_HOT_SOURCES_INLINING
    src/base/hash.c src/base/xxh3.c src/cell/cells.c src/cell/chunk.c src/cell/header.c
    src/page/pending.c src/page/pipeline_send.c)
set(hot_flags -O2)
set(hot_small_flags "")
set(cold_flags -Os)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # -Os still copies code and keeps registers over calls where that is not worth its bytes.
  set(cold_flags -Os -fno-caller-saves -fno-inline-functions-called-once -fno-thread-jumps -fno-tree-dominator-opts)
  # What the hot files take back of that; and the padding between loops costs more than it brings here.
  set(hot_flags -O2 -fcaller-saves -finline-functions-called-once -fthread-jumps -ftree-dominator-opts
      -fno-align-functions -fno-align-jumps -fno-align-loops -fno-align-labels)
  set(hot_small_flags -fno-inline-small-functions)
endif()
check_c_compiler_flag(-Oz CELLAR_CC_HAS_OZ)
if(CELLAR_CC_HAS_OZ)
  list(APPEND cold_flags -Oz)
endif()
# What is said of a file comes after what is said of the target.
set_property(SOURCE ${CELLAR_HOT_SOURCES} ${CELLAR_HOT_SOURCES_INLINING} APPEND
             PROPERTY COMPILE_OPTIONS "$<$<CONFIG:Release>:${hot_flags}>")
set_property(SOURCE ${CELLAR_HOT_SOURCES} APPEND PROPERTY COMPILE_OPTIONS "$<$<CONFIG:Release>:${hot_small_flags}>")
# Exported functions that call each other do so directly: nobody takes the place of one of them for the library itself.
target_compile_options(cellar_objects PRIVATE
                       "$<$<CONFIG:Release>:${cold_flags};-fno-semantic-interposition>"
                       "$<$<CONFIG:Release>:-ffunction-sections;-fdata-sections>"
                       "$<$<CONFIG:Release>:-fno-asynchronous-unwind-tables;-fno-unwind-tables>")

# For size alone gcc copies bytes by one instruction that takes as long to begin as memcpy for a hundred bytes.
check_c_compiler_flag(-mstringop-strategy=libcall CELLAR_CC_COPIES_BY_CALLS)
if(CELLAR_CC_COPIES_BY_CALLS AND CMAKE_C_COMPILER_ID STREQUAL "GNU")
  target_compile_options(cellar_objects PRIVATE "$<$<CONFIG:Release>:-mstringop-strategy=libcall>")
endif()

function(cellar_link_small target)
  foreach(flag IN ITEMS --gc-sections -Bsymbolic-functions -z,noseparate-code ${ARGN})
    string(MAKE_C_IDENTIFIER "CELLAR_LD_${flag}" known)
    check_linker_flag(C "-Wl,${flag}" ${known})
    if(${known})
      target_link_options(${target} PRIVATE "$<$<CONFIG:Release>:-Wl,${flag}>")
    endif()
  endforeach()
endfunction()

# Relocations of the tables of functions take an eighth of the room this way; the C library must know it.
check_c_source_compiles("#include <features.h>
                         #if !__GLIBC_PREREQ(2, 36)
                         #error older
                         #endif
                         int main(void) { return 0; }" CELLAR_LIBC_HAS_RELR)
if(CELLAR_LIBC_HAS_RELR)
  cellar_link_small(cellar -z,pack-relative-relocs)
else()
  cellar_link_small(cellar)
endif()
