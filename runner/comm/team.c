#include "runner/comm/team.h"

#include "kernels/base/mem.h"
#include "runner/comm/mpi_internal.h"

#include <stdlib.h>
#include <string.h>

struct lemoe_launch {
    lemoe_comm *world;
    lemoe_mailbox *mailbox;
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
    return lemoe_mailbox_create(world, &launch->mailbox);
}

void lemoe_launch_close(lemoe_launch *launch) {
    if (!launch) return;
    lemoe_mailbox_destroy(launch->mailbox);
    lemoe_comm_close(launch->world);
    lemoe_mem_free(launch);
    int started = 0;
    (void)MPI_Initialized(&started);
    if (started) (void)MPI_Finalize();
}

lemoe_comm *lemoe_launch_world(lemoe_launch *launch) { return launch->world; }
lemoe_mailbox *lemoe_launch_mailbox(lemoe_launch *launch) { return launch->mailbox; }

const char *lemoe_launch_mpi_version(void) {
    static char text[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;
    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "unknown";
    char *comma = strchr(text, ',');
    if (comma) *comma = '\0';
    return text;
}

lemoe_status lemoe_team_open(lemoe_launch *launch, int team_size, lemoe_team *out) {
    int rank = lemoe_comm_rank(launch->world), size = lemoe_comm_size(launch->world);
    LEMOE_CHECK(team_size >= 1 && team_size <= size, LEMOE_ERR_ARG, "a team of %d ranks out of %d", team_size, size);
    int n_team = size / team_size, index = rank / team_size;
    if (index >= n_team) index = -1;
    *out = (lemoe_team){index, n_team, index * team_size, NULL};
    MPI_Comm team;
    LEMOE_MPI(MPI_Comm_split(*(MPI_Comm *)launch->world->handle, index < 0 ? MPI_UNDEFINED : index, rank, &team));
    if (index < 0) return LEMOE_OK;
    if (team_size > 1) return lemoe_comm_mpi(team, &out->comm);
    LEMOE_MPI(MPI_Comm_free(&team));
    return lemoe_comm_self(&out->comm);
}

void lemoe_team_close(lemoe_team *team) {
    lemoe_comm_close(team->comm);
    team->comm = NULL;
}
