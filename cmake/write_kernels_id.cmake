# A hash of everything below kernels/: the program and the modules it opens carry it, and must agree.
file(GLOB_RECURSE files RELATIVE ${SOURCE}/kernels ${SOURCE}/kernels/*.h ${SOURCE}/kernels/*.c ${SOURCE}/kernels/*.cu
     ${SOURCE}/kernels/*.cuh)
list(SORT files)
set(hashes "")
foreach(file ${files})
  file(SHA256 ${SOURCE}/kernels/${file} hash)
  string(APPEND hashes "${file} ${hash}\n")
endforeach()
string(SHA256 id "${hashes}")
string(SUBSTRING ${id} 0 16 id)
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define LEMOE_KERNELS_ID \"${id}\"\n") # written where it differs
