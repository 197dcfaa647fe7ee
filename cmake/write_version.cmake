execute_process(COMMAND git -C ${SOURCE} rev-parse --short=12 HEAD OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE
                ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(commit "unknown")
  set(dirty 0)
else()
  execute_process(COMMAND git -C ${SOURCE} status --porcelain --untracked-files=no OUTPUT_VARIABLE changes ERROR_QUIET)
  string(COMPARE NOTEQUAL "${changes}" "" is_dirty)
  set(dirty 0)
  if(is_dirty)
    set(dirty 1)
  endif()
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT "#define LEMOE_VERSION \"${VERSION}\"\n#define LEMOE_GIT_COMMIT \"${commit}\"\n#define LEMOE_GIT_DIRTY ${dirty}\n") # written where it differs
