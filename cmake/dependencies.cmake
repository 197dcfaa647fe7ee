# Every library, found in one place. One BLAS, by its own name: `-lblas` follows Debian's alternatives and would change
# with what else is installed; serial HDF5 by its own pkg-config name, since `hdf5` may mean the MPI build.
find_package(PkgConfig REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
find_package(Threads REQUIRED)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5-serial)
find_library(HDF5_HL_LIBRARY NAMES hdf5_serial_hl hdf5_hl HINTS ${HDF5_LIBRARY_DIRS} REQUIRED)
pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(JANSSON REQUIRED IMPORTED_TARGET jansson)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
find_package(OpenMP REQUIRED COMPONENTS C)
# The OpenMP build of OpenBLAS, so that one thread pool (libgomp) serves products and our own loops.
find_library(OPENBLAS_LIBRARY openblas PATH_SUFFIXES openblas-openmp ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp REQUIRED)
find_path(OPENBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas-openmp ${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp REQUIRED)
add_library(lemoe_openblas INTERFACE)
target_link_libraries(lemoe_openblas INTERFACE ${OPENBLAS_LIBRARY})
target_include_directories(lemoe_openblas INTERFACE ${OPENBLAS_INCLUDE})
