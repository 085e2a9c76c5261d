# The images, and the identity that builds them.

resource "google_artifact_registry_repository" "images" {
  #checkov:skip=CKV_GCP_84:Google's keys (docs/production.md)
  repository_id = "retail-assistant"
  location      = var.region
  format        = "DOCKER"
  description   = "retail-assistant-code, -gpu, -serve; a tag is a git commit"

  docker_config {
    # What a commit's tag names never changes.
    immutable_tags = true
  }

  vulnerability_scanning_config {
    enablement_config = "INHERITED"
  }

  cleanup_policies {
    id     = "keep-the-latest"
    action = "KEEP"

    most_recent_versions {
      keep_count = 10
    }
  }

  cleanup_policies {
    id     = "delete-the-old"
    action = "DELETE"

    condition {
      older_than = "7776000s"
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_service_account" "build" {
  account_id   = "retail-build"
  display_name = "Builds the images on Cloud Build"
}

resource "google_artifact_registry_repository_iam_member" "build" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.writer"
  member     = google_service_account.build.member
}

resource "google_project_iam_member" "build_logs" {
  project = var.project
  role    = "roles/logging.logWriter"
  member  = google_service_account.build.member
}

# The sources that `gcloud builds submit` uploads, in Cloud Build's own buckets (PROJECT_…); ours are
# PROJECT-….
resource "google_project_iam_member" "build_sources" {
  project = var.project
  role    = "roles/storage.objectViewer"
  member  = google_service_account.build.member

  condition {
    title      = "sources-only"
    expression = "resource.name.startsWith(\"projects/_/buckets/${var.project}_\")"
  }
}
