# SPDX-License-Identifier: Apache-2.0

# Registers every .cpp of a folder as a test: the file says, in a comment, with which first error it
# must fail to compile. See tests/compile_fail/check.py.
function(mor_add_compile_fail_tests folder)
    set(check "${Python3_EXECUTABLE}" "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/check.py")
    set(includes "$<TARGET_PROPERTY:mor_test_main,INCLUDE_DIRECTORIES>")
    set(compiler "${CMAKE_CXX_COMPILER}" ${CMAKE_CXX20_STANDARD_COMPILE_OPTION} -fsyntax-only
        "-I$<JOIN:${includes},$<SEMICOLON>-I>")
    file(GLOB sources CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/${folder}/*.cpp")
    foreach(source IN LISTS sources)
        get_filename_component(name "${source}" NAME_WE)
        add_test(NAME ${folder}.${name}
            COMMAND ${check} "${source}" -- ${compiler} COMMAND_EXPAND_LISTS)
        set_tests_properties(${folder}.${name} PROPERTIES LABELS "fast;${folder}")
    endforeach()
    add_test(NAME ${folder}.self_test COMMAND ${check} --self-test -- ${compiler}
        COMMAND_EXPAND_LISTS)
    set_tests_properties(${folder}.self_test PROPERTIES LABELS "fast;${folder}")
endfunction()
