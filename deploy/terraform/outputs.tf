output "registry" {
  description = "Where images are pushed: make images REGISTRY=…"
  value       = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
}

output "build_service_account" {
  description = "Who builds them on Cloud Build (--service-account)."
  value       = google_service_account.build.id
}

output "credentials_command" {
  description = "Points kubectl at the cluster, through its name and IAM."
  value       = "gcloud container clusters get-credentials ${google_container_cluster.this.name} --location ${google_container_cluster.this.location} --project ${var.project} --dns-endpoint"
}

output "address" {
  description = "What dagster., mlflow. and assistant.DOMAIN must resolve to (A records)."
  value       = google_compute_global_address.doorway.address
}

output "catalog_bucket" {
  description = "Where the retailer's catalog is put."
  value       = google_storage_bucket.this["catalog"].url
}

output "database_instance" {
  description = "The Cloud SQL instance, for backups and restores by gcloud."
  value       = google_sql_database_instance.this.name
}

output "secrets_to_fill" {
  description = "Secrets whose value a person adds; those not used may stay empty."
  value       = sort([for name in keys(local.secret_readers) : name if !contains(local.made_here, name)])
}

output "parameters" {
  description = "What the cluster's objects need to know: terraform output -raw parameters > ../kubernetes/installation/parameters.env"
  value = join("", [for line in [
    "PROJECT=${var.project}",
    "SERVICE_ACCOUNT_DOMAIN=${var.project}.iam.gserviceaccount.com",
    "STORAGE_BUCKET=${google_storage_bucket.this["storage"].name}",
    "CATALOG_BUCKET=${google_storage_bucket.this["catalog"].name}",
    "DATABASE_HOST=${google_sql_database_instance.this.private_ip_address}",
    "DATABASE_RANGE=${google_compute_global_address.database.address}/${google_compute_global_address.database.prefix_length}",
    "KUBERNETES_API_RANGE=${local.kubernetes_api_range}",
    "DAGSTER_HOST=${local.hosts.dagster}",
    "MLFLOW_HOST=${local.hosts.mlflow}",
    "ASSISTANT_HOST=${local.hosts.assistant}",
    "IAP_CLIENT_ID=${var.iap_client_id}",
  ] : "${line}\n"])
}
