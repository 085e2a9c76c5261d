"""The databases of Dagster and MLflow: schema, retention, backup and restore."""
