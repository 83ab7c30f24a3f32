"""Who a device belongs to now: a pod and container of Kubernetes, or a job of Slurm."""
