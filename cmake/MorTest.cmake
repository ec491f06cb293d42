# SPDX-License-Identifier: Apache-2.0

# The doctest main and a second translation unit with the whole library, once for all tests.
# What nearly all of them include is precompiled here too.
add_library(mor_test_main OBJECT main.cpp odr.cpp precompiled.cpp)
target_link_libraries(mor_test_main PUBLIC mor::io doctest::doctest PRIVATE mor_dev)
target_compile_options(mor_test_main PRIVATE -O0)
target_precompile_headers(mor_test_main PRIVATE <doctest/doctest.h> <mor/mor.hpp>)
set_source_files_properties(main.cpp odr.cpp PROPERTIES SKIP_PRECOMPILE_HEADERS ON)

# Build only the tests of one label: cmake --build <dir> --target tests_<label>.
foreach(label fast slow threads)
    add_custom_target(tests_${label})
endforeach()

# mor_add_test(<name> SOURCES <file>... [LABELS fast|slow [threads]...] [ARGUMENTS <word>...]
#              [PRECOMPILED <header>...] [OPTIMIZED | COMPUTES | UNOPTIMIZED | PORTABLE])
#
# Builds the executable <name>_test and registers it with CTest as <name>. Without a label it is
# fast, to compile and to run, so that sanitizers have time for it. Tests that start threads
# add the label threads and run under the thread sanitizer. Most tests take far longer to compile than to
# run, and are compiled without optimisation, also in a release build, where slow ones get -O1 unless they
# are UNOPTIMIZED: slow to compile, not to run. One that COMPUTES much and yet is fast gets -O1 in any
# build; an OPTIMIZED one, of the kernels, what users' code gets. A PORTABLE one is compiled for any
# processor of the kind, and linked with no code compiled for this one, which could take the place of its
# own. PRECOMPILED are headers that most sources of a test include, in place of those that all tests share.
function(mor_add_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "OPTIMIZED;COMPUTES;UNOPTIMIZED;PORTABLE" ""
        "SOURCES;LABELS;ARGUMENTS;PRECOMPILED")
    if(arg_UNPARSED_ARGUMENTS OR NOT arg_SOURCES)
        message(FATAL_ERROR "mor_add_test(${name}): expected SOURCES <file>..., "
            "got '${arg_UNPARSED_ARGUMENTS}'")
    endif()
    if(NOT "fast" IN_LIST arg_LABELS AND NOT "slow" IN_LIST arg_LABELS)
        list(APPEND arg_LABELS fast)
    endif()

    set(executable ${name}_test)
    add_executable(${executable} ${arg_SOURCES})
    if(arg_PORTABLE)
        target_sources(${executable} PRIVATE main.cpp)
        target_link_libraries(${executable} PRIVATE mor::mor doctest::doctest mor_dev mor_portable)
    else()
        target_link_libraries(${executable} PRIVATE mor_test_main mor_dev)
    endif()
    target_include_directories(${executable} PRIVATE "${PROJECT_SOURCE_DIR}/tests")
    set(is_optimized ON)
    if(arg_COMPUTES)
        target_compile_options(${executable} PRIVATE -O1)
    elseif(arg_UNOPTIMIZED OR NOT (arg_OPTIMIZED OR arg_PORTABLE OR "slow" IN_LIST arg_LABELS))
        target_compile_options(${executable} PRIVATE -O0)
        set(is_optimized OFF)
    elseif(NOT arg_OPTIMIZED)
        target_compile_options(${executable} PRIVATE $<$<CONFIG:Release>:-O1>)
    endif()
    # A precompiled header of g++ forgets which warnings the headers in it have turned off: those of
    # optimised code then come from the compiler's own.
    if(arg_PRECOMPILED AND NOT (is_optimized AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU"))
        target_precompile_headers(${executable} PRIVATE ${arg_PRECOMPILED})
    elseif(NOT is_optimized)
        target_precompile_headers(${executable} REUSE_FROM mor_test_main)
    endif()
    add_test(NAME ${name} COMMAND ${executable} ${arg_ARGUMENTS})
    set_tests_properties(${name} PROPERTIES LABELS "${arg_LABELS}" TIMEOUT 900)
    foreach(label IN LISTS arg_LABELS)
        add_dependencies(tests_${label} ${executable})
    endforeach()
    foreach(source IN LISTS arg_SOURCES)
        cmake_path(ABSOLUTE_PATH source NORMALIZE)
        set_property(GLOBAL APPEND PROPERTY mor_test_sources "${source}")
    endforeach()
endfunction()

# A test file that nobody registered is a test that never runs: makes a failing test of it.
function(mor_check_all_tests_registered)
    file(GLOB_RECURSE found CONFIGURE_DEPENDS
        "${CMAKE_CURRENT_SOURCE_DIR}/*_test.cpp" "${CMAKE_CURRENT_SOURCE_DIR}/*_test.cu")
    get_property(registered GLOBAL PROPERTY mor_test_sources)
    list(REMOVE_ITEM found ${registered} "")
    if(found)
        message(WARNING "mor: not in tests/CMakeLists.txt: ${found}")
    endif()
    add_test(NAME tests.all_registered COMMAND "${Python3_EXECUTABLE}" -c
        "import sys; sys.exit(sys.argv[1] and 'not in tests/CMakeLists.txt: ' + sys.argv[1] or 0)"
        "${found}")
    set_tests_properties(tests.all_registered PROPERTIES LABELS fast)
endfunction()
