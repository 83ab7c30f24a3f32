#!/bin/sh
# Slurm's Prolog (as root, on each node): say to the agent that a job begins on its devices.
#   slurm.conf: Prolog=/etc/slurm/prolog.d/50-wattline.sh
# It never fails a job: whatever goes wrong here, the job starts.
jobs=${WATTLINE_JOBS:-/run/wattline/jobs}
[ -n "${SLURM_JOB_ID:-}" ] || exit 0
case $SLURM_JOB_ID in *[!0-9A-Za-z._+-]*) exit 0 ;; esac
devices=
# SLURM_JOB_GPUS is a list of places, such as 0,1,3 or 0-3, as nvidia-smi counts them.
for word in $(printf '%s' "${SLURM_JOB_GPUS:-}" | tr ',' ' '); do
    first=${word%-*} last=${word#*-}
    case $first$last in *[!0-9]* | '') continue ;; esac
    while [ "$first" -le "$last" ]; do
        devices="$devices${devices:+, }\"$first\""
        first=$((first + 1))
    done
done
user=$(printf '%s' "${SLURM_JOB_USER:-}" | tr -cd 'A-Za-z0-9._@-')
umask 022
mkdir -p "$jobs" 2>/dev/null || exit 0
{
    printf 'job = "%s"\n' "$SLURM_JOB_ID"
    printf 'user = "%s"\n' "$user"
    printf 'scheduler = "slurm"\n'
    printf 'devices = [%s]\n' "$devices"
} >"$jobs/.$SLURM_JOB_ID.$$" 2>/dev/null && mv -f "$jobs/.$SLURM_JOB_ID.$$" "$jobs/$SLURM_JOB_ID.toml" 2>/dev/null
exit 0
