# The commit a binary was built from goes into every results file; asked at build time, so it is never stale.
add_custom_target(lemoe_version_header
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_BINARY_DIR}/generated/lemoe_version.h
          -DVERSION=${PROJECT_VERSION} -P ${CMAKE_SOURCE_DIR}/cmake/write_version.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/generated/lemoe_version.h)

# Which kernels/ the program and its modules were built from; asked at build time for the same reason.
add_custom_target(lemoe_kernels_id_header
  COMMAND ${CMAKE_COMMAND} -DSOURCE=${CMAKE_SOURCE_DIR} -DOUT=${CMAKE_BINARY_DIR}/generated/lemoe_kernels_id.h
          -P ${CMAKE_SOURCE_DIR}/cmake/write_kernels_id.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/generated/lemoe_kernels_id.h)
