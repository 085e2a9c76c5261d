"""Running it for months: alerts, what work has cost, what may be thrown away."""
