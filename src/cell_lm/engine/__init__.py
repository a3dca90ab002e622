"""The training loop and what it needs: checkpoints, optimiser, schedule, log, run folder, processes, devices."""
