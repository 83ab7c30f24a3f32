"""Training: pipelines, jobs and recurring jobs as frontiers composed."""
