"""What a training tells MLflow, and how nothing of it is lost."""
