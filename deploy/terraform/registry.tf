# The images, and the identity that builds them.

resource "google_artifact_registry_repository" "images" {
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

resource "google_project_iam_member" "build" {
  for_each = toset(["roles/logging.logWriter", "roles/storage.objectViewer"])

  project = var.project
  role    = each.value
  member  = google_service_account.build.member

  # Its sources are in the bucket of Cloud Build; not the retailer's data.
  dynamic "condition" {
    for_each = each.value == "roles/storage.objectViewer" ? [local.source_bucket] : []

    content {
      title      = "sources-only"
      expression = "resource.name.startsWith(\"projects/_/buckets/${condition.value}\")"
    }
  }
}

locals {
  source_bucket = "${var.project}_cloudbuild"
}
