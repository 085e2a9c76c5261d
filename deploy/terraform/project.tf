locals {
  # As the objects in deploy/kubernetes have them.
  namespace      = "retail-assistant"
  storage_prefix = "production"

  labels = {
    app = "retail-assistant"
  }

  services = toset([
    "artifactregistry.googleapis.com",
    "billingbudgets.googleapis.com",
    "certificatemanager.googleapis.com",
    "cloudbuild.googleapis.com",
    "cloudresourcemanager.googleapis.com",
    "compute.googleapis.com",
    "container.googleapis.com",
    "containerfilesystem.googleapis.com",
    "containerscanning.googleapis.com",
    "iam.googleapis.com",
    "iap.googleapis.com",
    "logging.googleapis.com",
    "monitoring.googleapis.com",
    "secretmanager.googleapis.com",
    "servicenetworking.googleapis.com",
    "sqladmin.googleapis.com",
    "storage.googleapis.com",
  ])
}

data "google_project" "this" {
  project_id = var.project
}

resource "google_project_service" "needed" {
  for_each = var.generator_on_vertex ? setunion(local.services, ["aiplatform.googleapis.com"]) : local.services

  service = each.value
  # Others in the project may use them.
  disable_on_destroy = false
}

# Who read or wrote what, in the logs: the buckets hold shoppers' (masked) questions and the catalog.
resource "google_project_iam_audit_config" "storage" {
  project = var.project
  service = "storage.googleapis.com"

  audit_log_config {
    log_type = "DATA_WRITE"
  }
}

resource "google_project_iam_audit_config" "secrets" {
  project = var.project
  service = "secretmanager.googleapis.com"

  audit_log_config {
    log_type = "DATA_READ"
  }
}
