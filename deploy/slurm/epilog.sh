#!/bin/sh
# Slurm's Epilog (as root, on each node): say to the agent that the job has ended, and tell its energy in the node's log.
#   slurm.conf: Epilog=/etc/slurm/epilog.d/50-wattline.sh
# It never drains a node: whatever goes wrong here, the node goes on.
jobs=${WATTLINE_JOBS:-/run/wattline/jobs}
energy=${WATTLINE_ENERGY:-/var/lib/wattline/energy}
[ -n "${SLURM_JOB_ID:-}" ] || exit 0
case $SLURM_JOB_ID in *[!0-9A-Za-z._+-]*) exit 0 ;; esac
[ -f "$jobs/$SLURM_JOB_ID.toml" ] || exit 0
rm -f "$jobs/$SLURM_JOB_ID.toml"
tries=0
while [ ! -f "$energy/$SLURM_JOB_ID.json" ] && [ "$tries" -lt "${WATTLINE_TRIES:-20}" ]; do
    sleep 0.1
    tries=$((tries + 1))
done
if [ -f "$energy/$SLURM_JOB_ID.json" ] && command -v logger >/dev/null 2>&1; then
    logger -t wattline "job $SLURM_JOB_ID: $(tr -d '\n' <"$energy/$SLURM_JOB_ID.json" | cut -c 1-400)" 2>/dev/null
fi
exit 0
