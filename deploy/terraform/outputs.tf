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

output "overlay" {
  description = "What the kustomize overlays need, as NAME=value lines: terraform output -raw overlay > cluster.env"
  value = join("", [for name, value in {
    PROJECT            = var.project
    REGION             = var.region
    NAMESPACE          = var.namespace
    REGISTRY           = "${google_artifact_registry_repository.images.location}-docker.pkg.dev/${var.project}/${google_artifact_registry_repository.images.repository_id}"
    RETAIL_STORAGE_URI = "${google_storage_bucket.this["storage"].url}/${var.storage_prefix}"
    STORAGE_BUCKET     = google_storage_bucket.this["storage"].name
    CATALOG_BUCKET     = google_storage_bucket.this["catalog"].name
    MLFLOW_ARTEFACTS   = "${google_storage_bucket.this["storage"].url}/${trimsuffix(google_storage_managed_folder.this["mlflow"].name, "/")}"
    DATABASE_HOST      = google_sql_database_instance.this.private_ip_address
    DOMAIN             = var.domain
    ADDRESS_NAME       = google_compute_global_address.doorway.name
    CERTIFICATE_NAME   = google_compute_managed_ssl_certificate.doorway.name
    SSL_POLICY_NAME    = google_compute_ssl_policy.doorway.name
  } : "${name}=${value}\n"])
}
