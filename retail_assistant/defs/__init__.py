"""The asset graph, a module a stage."""
