# The NBD device, a library of its own: libcellar does without libnbd. Sets CELLAR_HAVE_NBD.
set(CELLAR_NBD AUTO CACHE STRING "The NBD device (libcellar-nbd): AUTO (where libnbd is found), ON or OFF")
set_property(CACHE CELLAR_NBD PROPERTY STRINGS AUTO ON OFF)

set(CELLAR_HAVE_NBD FALSE)
if(CELLAR_NBD STREQUAL AUTO)
  pkg_check_modules(LIBNBD IMPORTED_TARGET libnbd>=1.12)
elseif(CELLAR_NBD)
  pkg_check_modules(LIBNBD REQUIRED IMPORTED_TARGET libnbd>=1.12)
endif()
if(CELLAR_NBD AND LIBNBD_FOUND)
  set(CELLAR_HAVE_NBD TRUE)
  add_subdirectory(src/device/nbd)
endif()
