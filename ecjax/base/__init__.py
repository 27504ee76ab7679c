"""The ground floor: precision, progress, deadlines, devices, threads. It knows nothing of networks."""
