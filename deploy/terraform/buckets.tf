# Two buckets: what this project writes, and the retailer's catalog, which it only reads.
#
# Flat (no hierarchical namespace): that kind has no object versions, and the versions are what brings
# back a pointer that was overwritten by mistake. Keys are Google's; logs of access are Cloud Audit
# Logs (project.tf), which name the caller, and not the older usage logs, which do not.

locals {
  buckets = {
    storage = "${var.project}-retail-assistant"
    catalog = "${var.project}-retail-catalog"
  }
}

resource "google_storage_bucket" "this" {
  #checkov:skip=CKV_GCP_62:Cloud Audit Logs (project.tf) tell who wrote what, and name the caller
  for_each = local.buckets

  name                        = each.value
  location                    = var.region
  storage_class               = "STANDARD"
  uniform_bucket_level_access = true
  public_access_prevention    = "enforced"
  force_destroy               = !var.protected

  versioning {
    enabled = true
  }

  # A deleted bucket or version can be brought back for a week.
  soft_delete_policy {
    retention_duration_seconds = 604800
  }

  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = var.versions_kept_days
      with_state                 = "ARCHIVED"
    }
  }

  # Nightly backups of the databases.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      age            = 90
      matches_prefix = ["backups/"]
    }
  }

  # What shoppers said and is deleted does not live on as a version.
  lifecycle_rule {
    action {
      type = "Delete"
    }
    condition {
      days_since_noncurrent_time = 1
      with_state                 = "ARCHIVED"
      matches_prefix = [
        "${local.storage_prefix}/tables/shopper_feedback/",
        "${local.storage_prefix}/tables/feedback_candidates/",
      ]
    }
  }

  lifecycle_rule {
    action {
      type = "AbortIncompleteMultipartUpload"
    }
    condition {
      age = 7
    }
  }

  depends_on = [google_project_service.needed]
}

# Parts of the storage bucket that a stage may write and another may not. A managed folder is a prefix
# with rights of its own. What each holds: docs/how-it-works.md, "Where things are".
# `merged`: champions that the assistant itself merges with their base, where it serves without a GPU.
locals {
  managed_folders = {
    artefacts = "${local.storage_prefix}/artefacts/"
    objects   = "${local.storage_prefix}/objects/"
    responses = "${local.storage_prefix}/responses/"
    merged    = "${local.storage_prefix}/artefacts/served_model/"
    mlflow    = "mlflow/"
  }
}

resource "google_storage_managed_folder" "this" {
  for_each = local.managed_folders

  bucket        = google_storage_bucket.this["storage"].name
  name          = each.value
  force_destroy = !var.protected
}
