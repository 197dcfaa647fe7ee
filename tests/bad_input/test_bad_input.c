/*
 * Whatever comes from outside may be wrong: one clear line on standard error, exit status 1, nothing written, nothing
 * lost, no hang. Each row of cases.c spoils the inputs in one way.
 *
 *     test_bad_input PROGRAM TOKENIZER [--ranks | --long] [CASE...]
 *
 * --ranks: the cases that have a number of ranks, under mpirun. --long: those that take their time. CASE...: only
 * those.
 */
#include "tests/bad_input/cases.h"
#include "tests/bad_input/files.h"
#include "tests/bad_input/fixture.h"
#include "tests/bad_input/spawn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Against hangs, not against a busy machine. */
static const double patience_seconds = 120, long_patience_seconds = 600;
/* Whatever the input claims; mapped files count, and so does what a sanitizer holds back. */
static const long largest_peak_kib = 1L << 20;
#define SANITIZER_FILE "sanitizer" /* the beginning of a report's name; its process number follows */

typedef struct setting {
    char *program, *tokenizer;
    bool with_ranks;       /* under mpirun */
    bool is_long;          /* only the cases that take their time */
    char *folder, *inside; /* of this test; inside it the folder of one case */
} setting;

static void run(const setting *s, int n_rank, const char *const *arguments, spawned *out) {
    char *argv[MAX_CASE_ARGUMENTS + 5], ranks[12];
    int n = 0;
    (void)snprintf(ranks, sizeof ranks, "%d", n_rank);
    if (s->with_ranks) {
        argv[n++] = "mpirun";
        argv[n++] = "-n";
        argv[n++] = ranks;
    }
    argv[n++] = s->program;
    for (int i = 0; i < MAX_CASE_ARGUMENTS && arguments[i]; i++) argv[n++] = (char *)arguments[i];
    argv[n] = NULL;
    spawn(argv, s->folder, s->is_long ? long_patience_seconds : patience_seconds, out);
}

static void start_case(const setting *s) {
    if (chdir(s->folder) != 0) give_up(s->folder);
    tree_remove(s->inside);
    folder_make(s->inside);
    if (chdir(s->inside) != 0) give_up(s->inside);
    fixture_write(s->tokenizer);
}

/* ---- one case ---- */

static int complain(const char *name, const char *what, const spawned *result) {
    (void)printf("FAIL %s: %s\n  exit status %d\n  stderr: %s\n  stdout: %s\n", name, what, result->exit_status,
                 result->err, result->out);
    return 1;
}

static int is_one_clean_line(const char *text) {
    const char *end = strchr(text, '\n');
    for (const char *at = text; *at; at++)
        if (((unsigned char)*at < 0x20 && *at != '\n') || *at == 0x7f) return 0;
    return end && end[1] == '\0';
}

/* From the first line on in which b is not a. */
static const char *first_difference(const char *a, const char *b) {
    const char *line = b;
    for (size_t i = 0; b[i] && a[i] == b[i]; i++)
        if (b[i] == '\n') line = b + i + 1;
    return line;
}

static bool names_one_of(const char *text, const char *const *names) {
    for (; *names; names++)
        if (strstr(text, *names)) return true;
    return false;
}

/* Whether a report has a block (one leak, its stack) that is ours. Open MPI never frees all it takes: a block counts
 * that names our code or a library that only we call, unless MPI stands between, as it does where stacks reach up to
 * main. */
static bool has_own_leak(char *report) {
    static const char *const ours[] = {"/runner/",         "/kernels/", "libjansson", "libyaml",
                                       "libsentencepiece", "libhdf5",   NULL};
    static const char *const foreign[] = {"libmpi.so", NULL};
    bool found = false;
    for (char *block = report, *end; block && !found; block = end ? end + 1 : NULL) {
        end = strstr(block, "\n\n");
        if (end) *end = '\0';
        found = names_one_of(block, ours) && !names_one_of(block, foreign);
        if (end) *end = '\n';
    }
    return found;
}

/* In a sanitized build: what the program leaked itself; errors other than leaks show in the exit status. NULL: nothing.
 */
static char *leak_report(const setting *s) {
    char *report = NULL;
    for (char *path; (path = file_find(s->folder, SANITIZER_FILE)) != NULL; free(path)) {
        char *text = file_read(path, NULL);
        bool is_first = !report && has_own_leak(text);
        if (is_first) report = text;
        if (!is_first) free(text);
        tree_remove(path);
    }
    return report;
}

static int judge(const bad_case *c, const spawned *result, const char *before, const char *after) {
    static const char prefix[] = "lemoe-run: ";
    if (result->timed_out) return complain(c->name, "did not end", result);
    if (result->peak_kib > largest_peak_kib) return complain(c->name, "took more than 1 GiB of memory", result);
    if (result->exit_status != 1) return complain(c->name, "exit status is not 1", result);
    if (!is_one_clean_line(result->err)) return complain(c->name, "not one line of text on standard error", result);
    if (strncmp(result->err, prefix, sizeof prefix - 1) != 0)
        return complain(c->name, "does not say who is speaking", result);
    for (int i = 0; i < MAX_SAYS && c->says[i]; i++)
        if (!strstr(result->err, c->says[i])) return complain(c->name, c->says[i], result);
    if (*result->out) return complain(c->name, "something on standard output", result);
    if (strcmp(before, after) != 0) {
        (void)printf("now there is: %s", first_difference(before, after));
        return complain(c->name, "files have changed", result);
    }
    return 0;
}

/* What a run must have left behind before the case begins. */
static void run_well(const setting *s, int n_rank, const char *argument) {
    const char *const arguments[] = {"run.yaml", argument, NULL};
    spawned result;
    run(s, n_rank, arguments, &result);
    if (result.exit_status != 0 || result.peak_kib > largest_peak_kib) {
        (void)complain("the fixture", "does not run, or in more than 1 GiB", &result);
        exit(2);
    }
    spawned_free(&result);
}

static int run_case(const setting *s, const bad_case *c) {
    static const char *const plain[] = {"run.yaml", NULL};
    spawned result;
    start_case(s);
    for (const spoil *what = c->spoils; what->kind != SPOIL_END; what++) {
        if (what->kind == SPOIL_RUN)
            run_well(s, c->n_rank, what->a);
        else
            spoil_apply(what);
    }
    char *before = tree_list(s->inside);
    run(s, c->n_rank, c->arguments[0] ? c->arguments : plain, &result);
    char *after = tree_list(s->inside);
    int failed = judge(c, &result, before, after);
    char *leaks = leak_report(s);
    if (leaks && !failed) failed = complain(c->name, leaks, &result);
    if (!failed) (void)printf("ok   %s (%ld MiB): %s", c->name, result.peak_kib >> 10, result.err);
    (void)fflush(stdout);
    free(leaks);
    free(before);
    free(after);
    spawned_free(&result);
    return failed;
}

/* ---- all of them ---- */

static int is_wanted(const setting *s, const bad_case *c, char **names, int n_name) {
    if (c->is_long != s->is_long || (s->with_ranks ? c->n_rank == 0 : c->only_ranks)) return 0;
    for (int i = 0; i < n_name; i++)
        if (strcmp(names[i], c->name) == 0) return 1;
    return n_name == 0;
}

/* A folder of its own also for what MPI keeps while it runs. */
static void open_folder(setting *s) {
    static const char *const environment[][2] = {
        {"OMPI_MCA_ess_singleton_isolated", "1"         }, /* without mpirun it would start a daemon beside us */
        {"OMPI_MCA_pml",                    "ob1"       }, /* nor look for networks, which takes longer than the rest */
        {"OMPI_MCA_btl",                    "self,vader"},
        {"LEMOE_CUDA_MODULE",               "nowhere.so"}, /* no GPU, wherever this runs */
        {"DNNL_MAX_CPU_ISA",                "AVX2"      }  /* and a CPU that multiplies no bf16 */
    };
    const char *tmp = getenv("TMPDIR");
    s->folder = path_in(tmp ? tmp : "/tmp", "lemoe-bad-input-XXXXXX");
    if (!mkdtemp(s->folder)) give_up(s->folder);
    s->inside = path_in(s->folder, "case");
    if (setenv("TMPDIR", s->folder, 1) != 0) give_up("TMPDIR");
    char *options = path_in(s->folder, SANITIZER_FILE ":exitcode=0"), *log = path_in("log_path=", options);
    if (setenv("ASAN_OPTIONS", "detect_leaks=1", 1) != 0 || setenv("LSAN_OPTIONS", log, 1) != 0) give_up("environment");
    free(options);
    free(log);
    for (size_t i = 0; i < sizeof environment / sizeof *environment; i++)
        if (setenv(environment[i][0], environment[i][1], 0) != 0) give_up(environment[i][0]);
}

static void close_folder(setting *s) {
    if (chdir("/") != 0) give_up("/");
    tree_remove(s->folder);
    free(s->inside);
    free(s->folder);
}

int main(int argc, char **argv) {
    setting s = {0};
    int n_failed = 0, n_run = 0, first = 3;
    if (argc < 3) {
        (void)fprintf(stderr, "usage: test_bad_input PROGRAM TOKENIZER [--ranks | --long] [CASE...]\n");
        return 2;
    }
    s.program = argv[1];
    s.tokenizer = argv[2];
    if (argc > 3) {
        s.with_ranks = strcmp(argv[3], "--ranks") == 0;
        s.is_long = strcmp(argv[3], "--long") == 0;
        first += s.with_ranks || s.is_long;
    }
    open_folder(&s);
    start_case(&s);
    run_well(&s, 2, "edit.batch_size=2"); /* what all cases start from is good */
    for (int i = 0; i < n_bad_case; i++) {
        if (!is_wanted(&s, &bad_cases[i], argv + first, argc - first)) continue;
        n_run++;
        n_failed += run_case(&s, &bad_cases[i]);
    }
    close_folder(&s);
    (void)printf("%d cases, %d failed\n", n_run, n_failed);
    return n_failed || n_run == 0;
}
