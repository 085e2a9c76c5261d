"""Heavy work in its own process: what to run (LaunchSpec), what it left behind (Manifest)."""
