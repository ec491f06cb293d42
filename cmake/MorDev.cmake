# SPDX-License-Identifier: Apache-2.0
#
# mor_dev: the warnings and sanitizers of our own programs. Private: users of mor::mor get none.
add_library(mor_dev INTERFACE)
target_compile_options(mor_dev INTERFACE
    -Wall -Wextra -Wpedantic -Wconversion -Wsign-conversion -Wshadow -Werror)
if(MOR_NATIVE)
    target_compile_options(mor_dev INTERFACE -march=native)
endif()
# For any x86-64 processor. Linked after mor_dev, whose flags it overrules.
add_library(mor_portable INTERFACE)
if(CMAKE_SYSTEM_PROCESSOR STREQUAL "x86_64")
    target_compile_options(mor_portable INTERFACE -march=x86-64)
endif()
if(MOR_SANITIZE)
    set(sanitize -fsanitize=${MOR_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
    target_compile_options(mor_dev INTERFACE ${sanitize})
    target_link_options(mor_dev INTERFACE ${sanitize})
    if(MOR_SANITIZE MATCHES thread AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
        # Eigen's thread pool uses fences, which g++ says its thread sanitizer does not follow.
        target_compile_options(mor_dev INTERFACE -Wno-tsan)
    endif()
endif()

# Ours alone: a project that includes us decides for itself.
if(PROJECT_IS_TOP_LEVEL)
    set(CMAKE_CXX_EXTENSIONS OFF)
    if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
        set(CMAKE_BUILD_TYPE Release)
    endif()
endif()
