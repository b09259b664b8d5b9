"""What runs in the agent's process, and nowhere else."""
