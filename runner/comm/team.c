#include "runner/comm/team.h"

#include "kernels/base/mem.h"
#include "runner/comm/mpi_internal.h"

#include <stdlib.h>
#include <string.h>

struct lemoe_launch {
    lemoe_comm *world;
    lemoe_mailbox *mailbox;
    int *nodes;
};

static lemoe_status refuse_recovery_mode(void) {
    const char *recovery = getenv("OMPI_MCA_orte_enable_recovery");
    LEMOE_CHECK(
        !recovery || strcmp(recovery, "0") == 0 || strcmp(recovery, "false") == 0, LEMOE_ERR_STATE,
        "Open MPI's recovery mode is on (OMPI_MCA_orte_enable_recovery=%s): exit statuses would be lost and a dead "
        "rank would hang the job; unset it, or leave out --enable-recovery",
        recovery);
    return LEMOE_OK;
}

static int64_t environment_number(const char *name) {
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : 0;
}

/* With a launcher of another MPI (or srun without its plug-in) every process starts as a world of its own: they would
 * all do all the work, into the same files. */
static lemoe_status refuse_singletons(int size) {
    if (size > 1 || getenv("OMPI_COMM_WORLD_SIZE")) return LEMOE_OK;
    int64_t n_step = getenv("SLURM_STEP_ID") ? environment_number("SLURM_STEP_NUM_TASKS") : 0;
    int64_t n_pmi = environment_number("PMI_SIZE"), n = n_step > n_pmi ? n_step : n_pmi;
    LEMOE_CHECK(n <= 1, LEMOE_ERR_STATE,
                "the launcher started %lld processes, but each believes to be the only one: launcher and MPI do not "
                "match (this is %s); use `srun --mpi=pmix` if `srun --mpi=list` names it, or that MPI's own mpirun",
                (long long)n, lemoe_launch_mpi_version());
    return LEMOE_OK;
}

bool lemoe_launch_is_first_process(void) {
    return environment_number("OMPI_COMM_WORLD_RANK") == 0 && environment_number("SLURM_PROCID") == 0 &&
           environment_number("PMI_RANK") == 0;
}

/* A node is named by its lowest world rank; the names become 0, 1, ... in rank order. */
static lemoe_status find_nodes(lemoe_launch *launch) {
    MPI_Comm world = *(MPI_Comm *)launch->world->handle, node;
    int rank = launch->world->rank, size = launch->world->size, lowest = rank, n_node = 0;
    LEMOE_TRY(lemoe_mem_alloc(size, sizeof *launch->nodes, &launch->nodes));
    LEMOE_MPI(MPI_Comm_split_type(world, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node));
    LEMOE_MPI(MPI_Bcast(&lowest, 1, MPI_INT, 0, node));
    LEMOE_MPI(MPI_Comm_free(&node));
    LEMOE_MPI(MPI_Allgather(&lowest, 1, MPI_INT, launch->nodes, 1, MPI_INT, world));
    for (int i = 0; i < size; i++)
        launch->nodes[i] = launch->nodes[i] == i ? n_node++ : launch->nodes[launch->nodes[i]];
    return LEMOE_OK;
}

lemoe_status lemoe_launch_open(int *argc, char ***argv, lemoe_launch **out) {
    lemoe_launch *launch = NULL;
    LEMOE_TRY(refuse_recovery_mode());
    LEMOE_TRY(lemoe_mem_alloc(1, sizeof *launch, &launch));
    *out = launch;
    /* Waiting ranks give their core away; mpirun sets this when oversubscribed, srun does not. */
    (void)setenv("OMPI_MCA_mpi_yield_when_idle", "1", 0);
    int provided = 0;
    LEMOE_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided));
    MPI_Comm world;
    LEMOE_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &world));
    LEMOE_TRY(lemoe_comm_mpi(world, &launch->world));
    LEMOE_TRY(refuse_singletons(launch->world->size));
    LEMOE_TRY(find_nodes(launch));
    return lemoe_mailbox_create(world, &launch->mailbox);
}

void lemoe_launch_close(lemoe_launch *launch) {
    if (!launch) return;
    lemoe_mailbox_destroy(launch->mailbox);
    if (launch->world) lemoe_comm_close(launch->world);
    lemoe_mem_free(launch->nodes);
    lemoe_mem_free(launch);
    int started = 0;
    (void)MPI_Initialized(&started);
    if (started) (void)MPI_Finalize();
}

lemoe_comm *lemoe_launch_world(lemoe_launch *launch) { return launch->world; }
lemoe_mailbox *lemoe_launch_mailbox(lemoe_launch *launch) { return launch->mailbox; }
const int *lemoe_launch_nodes(const lemoe_launch *launch) { return launch->nodes; }

const char *lemoe_launch_mpi_version(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown";
    char *comma = strchr(text, ',');
    if (comma) *comma = '\0';
    return text;
}

lemoe_status lemoe_team_open(lemoe_launch *launch, const int *ranks, int n_rank, int tag, lemoe_comm **out) {
    MPI_Comm world = *(MPI_Comm *)launch->world->handle, team = MPI_COMM_NULL;
    MPI_Group all, some;
    if (n_rank == 1) return lemoe_comm_self(out);
    LEMOE_MPI(MPI_Comm_group(world, &all));
    LEMOE_MPI(MPI_Group_incl(all, n_rank, ranks, &some));
    LEMOE_MPI(MPI_Comm_create_group(world, some, tag, &team));
    LEMOE_MPI(MPI_Group_free(&some));
    LEMOE_MPI(MPI_Group_free(&all));
    LEMOE_CHECK(team != MPI_COMM_NULL, LEMOE_ERR_ARG, "this rank is not in the team it was asked to open");
    return lemoe_comm_mpi(team, out);
}
