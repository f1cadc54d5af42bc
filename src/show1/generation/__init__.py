"""One generation: the request, the run folder, loading, progress, and the pipeline."""
