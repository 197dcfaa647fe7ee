# One interface target carries the flags of all our code. Never -ffast-math: it folds isfinite() to 1.
add_library(lemoe_flags INTERFACE)
target_include_directories(lemoe_flags INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_definitions(lemoe_flags INTERFACE _POSIX_C_SOURCE=200809L $<$<BOOL:${LEMOE_DEBUG}>:LEMOE_DEBUG>)
target_compile_options(lemoe_flags INTERFACE -Wall -Wextra -Wshadow $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes>
                                             $<$<BOOL:${LEMOE_WERROR}>:-Werror>)
if(LEMOE_SANITIZE)
  target_compile_options(lemoe_flags INTERFACE -fsanitize=address,undefined -fno-omit-frame-pointer
                                               -fno-sanitize-recover=undefined)
  target_link_options(lemoe_flags INTERFACE -fsanitize=address,undefined)
endif()

# lemoe_module(NAME SOURCES... [LINK targets...]): one folder, one static library.
function(lemoe_module name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINK;PRIVATE_LINK" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC lemoe_flags ${ARG_LINK} PRIVATE ${ARG_PRIVATE_LINK})
endfunction()
