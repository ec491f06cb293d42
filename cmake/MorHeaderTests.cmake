# SPDX-License-Identifier: Apache-2.0

# Compiles every header alone, twice, and after macros that other people's headers define.
function(mor_add_header_tests target)
    set(root "${PROJECT_SOURCE_DIR}/include")
    file(GLOB_RECURSE headers CONFIGURE_DEPENDS RELATIVE "${root}" "${root}/mor/*.hpp")
    set(sources "")
    foreach(header IN LISTS headers)
        # Third-party headers cannot stand the macros, so they come first where they are used.
        set(first "")
        if(header MATCHES "^mor/((mor|instances)[.]hpp$|backends/cpu/)")
            string(APPEND first "#include <Eigen/Core>\n#include <unsupported/Eigen/CXX11/ThreadPool>\n")
        endif()
        if(header MATCHES "^mor/backends/cuda/")
            # Those for nvcc are compiled by the tests that it compiles.
            if(NOT MOR_THRUST_INCLUDE_DIR OR header MATCHES "/(cuda|device_[a-z]+)[.]hpp$")
                continue()
            endif()
            string(APPEND first "#include <thrust/copy.h>\n#include <thrust/functional.h>\n"
                "#include <thrust/inner_product.h>\n#include <thrust/iterator/counting_iterator.h>\n"
                "#include <thrust/reduce.h>\n#include <thrust/sort.h>\n"
                "#include <thrust/system/cpp/execution_policy.h>\n")
        endif()
        if(header MATCHES "^mor/(io|checkpoint)[/.]")
            string(APPEND first "#include <nlohmann/json.hpp>\n")
        endif()
        string(REPLACE "/" "_" source "${header}")
        set(source "${CMAKE_CURRENT_BINARY_DIR}/${target}/${source}.cpp")
        configure_file("${PROJECT_SOURCE_DIR}/tests/headers/header_test.cpp.in" "${source}" @ONLY)
        list(APPEND sources "${source}")
    endforeach()
    add_library(${target} OBJECT ${sources})
    target_include_directories(${target} PRIVATE "${PROJECT_SOURCE_DIR}/tests/headers")
    target_link_libraries(${target} PRIVATE mor::io mor_dev)
    target_compile_options(${target} PRIVATE -O0 -g0)
    # Nothing of it runs; its sources then only wait for clang-tidy.
    if(MOR_SANITIZE)
        set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL ON)
    endif()
    if(MOR_THRUST_INCLUDE_DIR)
        mor_use_thrust(${target})
    endif()
endfunction()
