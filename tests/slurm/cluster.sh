# Sourced: a Slurm of two nodes on this machine, in a folder of its own, without systemd and without touching another
# Slurm. Needs root (for namespaces: each node has its own host name and shared memory).
#   cluster_start FOLDER      cluster_stop

cluster_missing() {
    local program
    [ "$(id -u)" = 0 ] || { echo "needs root" && return; }
    for program in slurmctld slurmd sbatch srun scontrol munged mungekey unshare; do
        command -v "$program" >/dev/null || { echo "$program is not installed" && return; }
    done
    unshare --mount --uts true 2>/dev/null || echo "unshare is not permitted here"
}

cluster_configuration() {
    local s=$1 host port
    host=$(hostname -s)
    port=$((20000 + $$ % 12000)) # below the ports that connections are given
    cat <<CONF
ClusterName=lemoe
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
AuthInfo=socket=$s/munge.socket
StateSaveLocation=$s/state
SlurmdSpoolDir=$s/spool/%n
SlurmctldPidFile=$s/run/slurmctld.pid
SlurmdPidFile=$s/run/slurmd.%n.pid
SlurmctldLogFile=$s/log/slurmctld.log
SlurmdLogFile=$s/log/slurmd.%n.log
SlurmctldPort=$port
SlurmdPort=$((port + 1))
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=pmix
ReturnToService=2
SlurmctldTimeout=30
SlurmdTimeout=30
KillWait=5
MinJobAge=600
InactiveLimit=0
Waittime=0
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=0
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
NodeName=n[1-2] NodeHostname=$host NodeAddr=127.0.0.1 Port=[$((port + 2))-$((port + 3))] CPUs=4 Boards=1 SocketsPerBoard=1 CoresPerSocket=4 ThreadsPerCore=1 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=n[1-2] Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
}

cluster_start() {
    cluster=$1
    mkdir -p "$cluster"/{state,spool/n1,spool/n2,log,run,pmix}
    chmod 755 "$cluster"
    cluster_configuration "$cluster" >"$cluster/slurm.conf"
    echo "PMIxCliTmpDirBase=$cluster/pmix" >"$cluster/mpi.conf"
    export SLURM_CONF=$cluster/slurm.conf
    mungekey --create --keyfile="$cluster/munge.key" >/dev/null
    munged --force --socket="$cluster/munge.socket" --key-file="$cluster/munge.key" --pid-file="$cluster/run/munged.pid" \
        --log-file="$cluster/log/munged.log" --seed-file="$cluster/state/munge.seed" 2>"$cluster/log/munged.err" ||
        { cat "$cluster/log/munged.err" && return 1; }
    slurmctld -f "$SLURM_CONF"
    local node
    for node in n1 n2; do
        unshare --mount --uts --propagation private sh -c "hostname $node; mount -t tmpfs shm /dev/shm; \
            mount -t tmpfs pmix $cluster/pmix; exec slurmd -f $SLURM_CONF -N $node"
    done
    local i
    for ((i = 0; i < 300; i++)); do
        [ "$(sinfo -h -o %T 2>/dev/null | sort -u)" = idle ] && return 0
        sleep 0.1
    done
    sinfo
    tail -n 20 "$cluster"/log/*
    return 1
}

# Only what was started here, by its own pid files.
cluster_stop() {
    local file pid
    scancel --quiet --user=root 2>/dev/null || true
    for file in "$cluster"/run/slurmd.*.pid "$cluster"/run/slurmctld.pid "$cluster"/run/munged.pid; do
        pid=$(cat "$file" 2>/dev/null) || continue
        kill "$pid" 2>/dev/null || continue
        for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null && sleep 0.1 || break; done
        kill -9 "$pid" 2>/dev/null || true
    done
}
