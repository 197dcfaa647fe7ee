/*
 * Status codes and the error record: what every function of lemoe that can fail returns, and how the message of
 * the first failure reaches the one place that prints it.
 *
 * A failing function raises once (lemoe_raise) with a message for the user: file, place, reason, remedy. Callers only
 * pass the code up; each LEMOE_TRY adds a frame, so the record ends as a short trace. The record is thread-local.
 */
#ifndef KERNELS_BASE_STATUS_H
#define KERNELS_BASE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lemoe_status {
    LEMOE_OK = 0,
    LEMOE_ERR_ARG,         /* a caller inside lemoe broke a contract */
    LEMOE_ERR_CONFIG,      /* configuration or command line */
    LEMOE_ERR_IO,          /* the operating system refused a file operation */
    LEMOE_ERR_FORMAT,      /* a file from outside does not hold what it should */
    LEMOE_ERR_NOMEM,       /* memory, on the host or on the device */
    LEMOE_ERR_SHAPE,       /* dimensions do not fit together */
    LEMOE_ERR_UNSUPPORTED, /* understood, and not offered */
    LEMOE_ERR_DEVICE,      /* accelerator or compute library */
    LEMOE_ERR_COMM,        /* MPI or NCCL */
    LEMOE_ERR_NUMERIC,     /* a value that is not finite where it has to be */
    LEMOE_ERR_STATE,       /* not now: wrong order of calls, somebody else owns it */
    LEMOE_ERR_INTERRUPTED, /* a signal asked for an end; the same command goes on */
    LEMOE_STATUS_COUNT
} lemoe_status;

#if defined(__GNUC__)
#define LEMOE_MUST_CHECK                  __attribute__((warn_unused_result))
#define LEMOE_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define LEMOE_MUST_CHECK
#define LEMOE_PRINTF(format_index, first)
#endif

/* Local. Records code and message (replacing an older record) and returns the code. */
lemoe_status lemoe_raise_at(const char *file, int line, lemoe_status code, const char *format, ...) LEMOE_PRINTF(4, 5);
#define lemoe_raise(code, ...) lemoe_raise_at(__FILE__, __LINE__, (code), __VA_ARGS__)

/* Local. Adds one frame to the record of the failure under way and returns the code. */
lemoe_status lemoe_error_frame(lemoe_status code, const char *file, int line, const char *function);

/* Local. The message of the last failure on this thread ("" if none). Valid until the next raise or clear. */
const char *lemoe_error_message(void);
/* Local. The trace of that failure, one "file:line function" a line. Valid as above. */
const char *lemoe_error_trace(void);
/* Local. Puts text in front of the message: "context: message". For callers that know the file or record. */
void lemoe_error_prefix(const char *format, ...) LEMOE_PRINTF(1, 2);
void lemoe_error_clear(void);
/* Local. Lower-case name of a code: "config", "io", ... */
const char *lemoe_status_name(lemoe_status code);

/* Returns up on failure, adding a frame. */
#define LEMOE_TRY(call)                                                                                                \
    do {                                                                                                               \
        lemoe_status try_status_ = (call);                                                                             \
        if (try_status_ != LEMOE_OK) return lemoe_error_frame(try_status_, __FILE__, __LINE__, __func__);              \
    } while (0)

/* The same for functions with cleanup: needs a local `lemoe_status status` and a label `out`. */
#define LEMOE_TRY_GOTO(call)                                                                                           \
    do {                                                                                                               \
        status = (call);                                                                                               \
        if (status != LEMOE_OK) {                                                                                      \
            (void)lemoe_error_frame(status, __FILE__, __LINE__, __func__);                                             \
            goto out;                                                                                                  \
        }                                                                                                              \
    } while (0)

/* Raises with a message and returns unless the condition holds. */
#define LEMOE_CHECK(condition, code, ...)                                                                              \
    do {                                                                                                               \
        if (!(condition)) return lemoe_raise((code), __VA_ARGS__);                                                     \
    } while (0)

/* Programmer error; debug builds only. Never used on what comes from outside. */
#ifdef LEMOE_DEBUG
void lemoe_assert_failed(const char *file, int line, const char *condition);
#define LEMOE_ASSERT(condition)                                                                                        \
    do {                                                                                                               \
        if (!(condition)) lemoe_assert_failed(__FILE__, __LINE__, #condition);                                         \
    } while (0)
#else
#define LEMOE_ASSERT(condition)                                                                                        \
    do {                                                                                                               \
    } while (0)
#endif

#ifdef __cplusplus
}
#endif
#endif
