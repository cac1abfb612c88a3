# What `cmake --install` puts where: headers, both libraries, the pkg-config file and the CMake package.
include(CMakePackageConfigHelpers)

set(CELLAR_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/cellar)

install(DIRECTORY ${PROJECT_SOURCE_DIR}/include/cellar DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
        FILES_MATCHING PATTERN "*.h" PATTERN "nbd.h" EXCLUDE)

# Two export sets: who links the shared library needs nothing else, who links the static one needs libb2 and threads.
set_target_properties(cellar_static PROPERTIES EXPORT_NAME static)
install(TARGETS cellar EXPORT cellarTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS cellar_static EXPORT cellarStaticTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
foreach(set cellarTargets cellarStaticTargets)
  install(EXPORT ${set} NAMESPACE cellar:: DESTINATION ${CELLAR_CMAKE_DIR})
endforeach()

configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/cellarConfig.cmake.in
                              ${PROJECT_BINARY_DIR}/cmake/cellarConfig.cmake
                              INSTALL_DESTINATION ${CELLAR_CMAKE_DIR} NO_SET_AND_CHECK_MACRO)
# Before 1.0 every minor version has interfaces of its own, as the SONAME says too.
write_basic_package_version_file(${PROJECT_BINARY_DIR}/cmake/cellarConfigVersion.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/cmake/cellarConfig.cmake ${PROJECT_BINARY_DIR}/cmake/cellarConfigVersion.cmake
        DESTINATION ${CELLAR_CMAKE_DIR})

# The pkg-config file finds its prefix from where it lies, so that the installed tree can be moved.
if(IS_ABSOLUTE ${CMAKE_INSTALL_LIBDIR})
  set(CELLAR_PC_PREFIX ${CMAKE_INSTALL_PREFIX})
  set(CELLAR_PC_LIBDIR ${CMAKE_INSTALL_LIBDIR})
else()
  file(RELATIVE_PATH up /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
  string(REGEX REPLACE "/$" "" up ${up})
  set(CELLAR_PC_PREFIX "\${pcfiledir}/${up}")
  set(CELLAR_PC_LIBDIR "\${prefix}/${CMAKE_INSTALL_LIBDIR}")
endif()
if(IS_ABSOLUTE ${CMAKE_INSTALL_INCLUDEDIR})
  set(CELLAR_PC_INCLUDEDIR ${CMAKE_INSTALL_INCLUDEDIR})
else()
  set(CELLAR_PC_INCLUDEDIR "\${prefix}/${CMAKE_INSTALL_INCLUDEDIR}")
endif()
set(CELLAR_PC_URING "")
if(CELLAR_HAVE_URING)
  set(CELLAR_PC_URING " liburing")
endif()
configure_file(${PROJECT_SOURCE_DIR}/cmake/cellar.pc.in ${PROJECT_BINARY_DIR}/cmake/cellar.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/cmake/cellar.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
