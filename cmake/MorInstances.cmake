# SPDX-License-Identifier: Apache-2.0
#
# mor::instances: the published architectures, compiled once. See mor/instances.hpp.
function(mor_add_instances)
    set(folder "${PROJECT_SOURCE_DIR}/instances")
    set(sources "${folder}/compiled_for.cpp")
    foreach(architecture "mor::Vanilla" "mor::Recursive<>" "mor::MoRExpert<>" "mor::MoRToken<>")
        foreach(backend "mor::instances::Float" "mor::instances::Rounding")
            string(MAKE_C_IDENTIFIER "${architecture}_on_${backend}" name)
            set(source "${PROJECT_BINARY_DIR}/instances/${name}.cpp")
            configure_file("${folder}/instance.cpp.in" "${source}" @ONLY)
            list(APPEND sources "${source}")
        endforeach()
    endforeach()

    add_library(mor_instances STATIC ${sources})
    add_library(mor::instances ALIAS mor_instances)
    set_target_properties(mor_instances PROPERTIES EXPORT_NAME instances CXX_EXTENSIONS OFF)
    target_link_libraries(mor_instances PUBLIC mor)
    # Programs that link it must be compiled for the same vector instructions.
    target_compile_options(mor_instances PUBLIC $<$<BOOL:${MOR_NATIVE}>:-march=native>)
endfunction()
mor_add_instances()
