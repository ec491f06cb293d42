# SPDX-License-Identifier: Apache-2.0
#
# Our own programs that nvcc compiles: the language, and mor_cuda_dev, their warnings. Sanitizers are
# for those of the processor; the GPU has its own, which need no build of their own.
if(NOT CMAKE_CUDA_ARCHITECTURES)
    # Ampere, whose code a driver translates for what is newer, and Hopper with all it has.
    set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
endif()
if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER "${CUDAToolkit_NVCC_EXECUTABLE}")
endif()
if(NOT CMAKE_CUDA_HOST_COMPILER)
    set(CMAKE_CUDA_HOST_COMPILER "${CMAKE_CXX_COMPILER}")
endif()
enable_language(CUDA)

# What nvcc writes for the C++ compiler has parentheses around names of members.
add_library(mor_cuda_dev INTERFACE)
target_compile_options(mor_cuda_dev INTERFACE
    "$<$<COMPILE_LANGUAGE:CUDA>:--Werror=all-warnings;-Xcompiler=-Wall,-Wextra,-Wno-parentheses>")
