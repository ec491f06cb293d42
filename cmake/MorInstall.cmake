# SPDX-License-Identifier: Apache-2.0
#
# Headers, exported targets, and the package files for
# find_package(mor [COMPONENTS io cuda instances]).
# Each component has its own export set, so that an installation without it does not mention it.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(package_dir "${CMAKE_INSTALL_DATADIR}/cmake/mor")

install(TARGETS mor EXPORT mor-targets FILE_SET HEADERS)
install(EXPORT mor-targets NAMESPACE mor:: DESTINATION "${package_dir}")

if(TARGET mor_io)
    install(TARGETS mor_io EXPORT mor-io-targets FILE_SET HEADERS)
    install(EXPORT mor-io-targets NAMESPACE mor:: DESTINATION "${package_dir}")
endif()

if(TARGET mor_instances)
    install(TARGETS mor_instances EXPORT mor-instances-targets)
    install(EXPORT mor-instances-targets NAMESPACE mor:: DESTINATION "${package_dir}")
endif()

if(TARGET mor_cuda)
    install(TARGETS mor_cuda EXPORT mor-cuda-targets FILE_SET HEADERS)
    install(EXPORT mor-cuda-targets NAMESPACE mor:: DESTINATION "${package_dir}")
endif()

configure_package_config_file(
    "${CMAKE_CURRENT_LIST_DIR}/mor-config.cmake.in" "${PROJECT_BINARY_DIR}/mor-config.cmake"
    INSTALL_DESTINATION "${package_dir}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/mor-config-version.cmake"
    COMPATIBILITY SameMinorVersion ARCH_INDEPENDENT)
install(FILES "${PROJECT_BINARY_DIR}/mor-config.cmake" "${PROJECT_BINARY_DIR}/mor-config-version.cmake"
    DESTINATION "${package_dir}")
