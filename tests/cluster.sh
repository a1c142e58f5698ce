#!/bin/sh
# tests/cluster.sh up FOLDER: a Slurm of three nodes of one CPU each, all of it on this machine and in the folder, as whichever user; then
# SLURM_CONF=FOLDER/slurm.conf sbatch ...   tests/cluster.sh down FOLDER ends it.  Debian's slurmctld, slurmd, slurm-client and munge.
# Settings are those of slurm.conf(5) and cgroup.conf(5) of Slurm 22.05.
PATH=$PATH:/usr/sbin
dir=$2
export SLURM_CONF="$dir/slurm.conf"

# slurmd needs several: a node is one daemon here.  A node counts as lost after 10 s (SlurmdTimeout); a lost task is queued again once its
# credential has run out (cred_expire; 120 s by default).
configure() {
    port=$((20000 + $$ % 10000 * 4))
    cat >"$dir/slurm.conf" <<EOF
ClusterName=test
SlurmctldHost=$(hostname)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
CredType=cred/munge
AuthInfo=cred_expire=5,socket=$dir/munge/sock
StateSaveLocation=$dir/state
SlurmctldPidFile=$dir/slurmctld.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdSpoolDir=$dir/spool.%n
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmdLogFile=$dir/slurmd.%n.log
SlurmdParameters=config_overrides
SlurmdTimeout=10
KillWait=5
ReturnToService=2
JobRequeue=1
SchedulerParameters=sched_interval=2
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
PropagateResourceLimits=NONE
MailProg=/bin/true
NodeName=n[1-3] NodeHostname=localhost NodeAddr=127.0.0.1 Port=$((port + 1))-$((port + 3)) CPUs=1
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE
EOF
    echo 'CgroupPlugin=cgroup/v1' >"$dir/cgroup.conf"       # found out by itself, it fails where /sys/fs/cgroup is not mounted
}

start_munge() {
    mkdir -p "$dir/munge" "$dir/state"
    chmod 755 "$dir" "$dir/munge"
    (umask 277 && head -c 1024 /dev/urandom >"$dir/munge.key")
    munged --force --key-file "$dir/munge.key" --socket "$dir/munge/sock" --pid-file "$dir/munge/pid" --log-file "$dir/munge/log" --seed-file "$dir/munge/seed"
}

wait_for_nodes() {
    for _ in $(seq 100); do
        [ "$(sinfo -h -N -t idle -o %N 2>/dev/null | wc -l)" = 3 ] && return
        sleep 0.2
    done
    echo "the nodes do not come up:"
    tail -n 5 "$dir"/*.log
    return 1
}

up() {
    configure
    start_munge && slurmctld && for n in n1 n2 n3; do
        mkdir -p "$dir/spool.$n"
        slurmd -N $n || return 1
    done && wait_for_nodes
}

# Tasks first: they would be queued again.
down() {
    scancel --user "$(id -un)" 2>/dev/null
    for _ in $(seq 50); do
        [ -n "$(squeue -h 2>/dev/null)" ] || break
        sleep 0.2
    done
    for f in "$dir"/slurmd.*.pid "$dir/slurmctld.pid" "$dir/munge/pid"; do
        [ -s "$f" ] && kill "$(cat "$f")" 2>/dev/null
    done
    return 0
}

case $1 in
up | down) "$1" ;;
*) sed -n '2,3s/^# //p' "$0"; exit 2 ;;
esac
