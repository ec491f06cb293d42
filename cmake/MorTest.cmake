# SPDX-License-Identifier: Apache-2.0

# The doctest main and a second translation unit with the whole library, once for all tests.
add_library(mor_test_main OBJECT main.cpp odr.cpp)
target_link_libraries(mor_test_main PUBLIC mor::io doctest::doctest PRIVATE mor_dev)

# Build only the tests of one label: cmake --build <dir> --target tests_<label>.
foreach(label fast slow threads)
    add_custom_target(tests_${label})
endforeach()

# mor_add_test(<name> SOURCES <file>... [LABELS fast|slow [threads]...] [ARGUMENTS <word>...]
#              [OPTIMIZED | PORTABLE])
#
# Builds the executable <name>_test and registers it with CTest as <name>. Without a label it is
# fast, to compile and to run, so that sanitizers have time for it. Tests that start threads
# add the label threads and run under the thread sanitizer. A release build compiles a test with -O1,
# in two thirds of the time, unless it is OPTIMIZED: those of the kernels are, as users' code is. A
# PORTABLE one is compiled for any processor of the kind, and linked with no code compiled for this one,
# which could take the place of its own.
function(mor_add_test name)
    cmake_parse_arguments(PARSE_ARGV 1 arg "OPTIMIZED;PORTABLE" "" "SOURCES;LABELS;ARGUMENTS")
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
    if(NOT arg_OPTIMIZED)
        target_compile_options(${executable} PRIVATE $<$<CONFIG:Release>:-O1>)
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
