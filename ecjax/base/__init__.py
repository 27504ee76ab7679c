"""The ground floor: precision, progress, devices, threads. It knows nothing of networks."""
