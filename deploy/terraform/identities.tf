# Who may do what. A pod's Kubernetes service account is itself the identity (Workload Identity
# Federation): there is no Google service account to borrow, no key, and no annotation.
#
# | identity        | storage bucket                          | catalog | secrets (secrets.tf)         |
# |-----------------|-----------------------------------------|---------|------------------------------|
# | retail-dagster  | reads and writes                        | reads   | its database, tokens, webhook|
# | retail-training | reads; writes artefacts and responses   | reads   | model hub, generator, Ray    |
# | retail-images   | reads; writes artefacts and objects     | -       | Ray                          |
# | retail-serving  | reads                                   | -       | -                            |
# | retail-mlflow   | reads and writes mlflow/ only           | -       | its database                 |

locals {
  principals = {
    for name in ["retail-dagster", "retail-training", "retail-images", "retail-serving", "retail-mlflow"] :
    name => join("", [
      "principal://iam.googleapis.com/projects/${data.google_project.this.number}",
      "/locations/global/workloadIdentityPools/${var.project}.svc.id.goog",
      "/subject/ns/${var.namespace}/sa/${name}",
    ])
  }

  bucket_grants = {
    "retail-dagster writes storage"  = { bucket = "storage", role = "roles/storage.objectUser", identity = "retail-dagster" }
    "retail-dagster reads catalog"   = { bucket = "catalog", role = "roles/storage.objectViewer", identity = "retail-dagster" }
    "retail-training reads storage"  = { bucket = "storage", role = "roles/storage.objectViewer", identity = "retail-training" }
    "retail-training reads catalog"  = { bucket = "catalog", role = "roles/storage.objectViewer", identity = "retail-training" }
    "retail-images reads storage"    = { bucket = "storage", role = "roles/storage.objectViewer", identity = "retail-images" }
    "retail-serving reads storage"   = { bucket = "storage", role = "roles/storage.objectViewer", identity = "retail-serving" }
  }

  folder_grants = {
    "retail-training writes artefacts" = { folder = "artefacts", identity = "retail-training" }
    "retail-training writes responses" = { folder = "responses", identity = "retail-training" }
    "retail-images writes artefacts"   = { folder = "artefacts", identity = "retail-images" }
    "retail-images writes objects"     = { folder = "objects", identity = "retail-images" }
    "retail-mlflow writes mlflow"      = { folder = "mlflow", identity = "retail-mlflow" }
  }
}

resource "google_storage_bucket_iam_member" "stage" {
  for_each = local.bucket_grants

  bucket = google_storage_bucket.this[each.value.bucket].name
  role   = each.value.role
  member = local.principals[each.value.identity]

  # The pool of identities is there when a cluster is.
  depends_on = [google_container_cluster.this]
}

resource "google_storage_managed_folder_iam_member" "stage" {
  for_each = local.folder_grants

  bucket         = google_storage_managed_folder.this[each.value.folder].bucket
  managed_folder = google_storage_managed_folder.this[each.value.folder].name
  role           = "roles/storage.objectUser"
  member         = local.principals[each.value.identity]

  depends_on = [google_container_cluster.this]
}

# Dialogues written by Llama on Vertex AI.
resource "google_project_iam_member" "generator" {
  count = var.generator_on_vertex ? 1 : 0

  project = var.project
  role    = "roles/aiplatform.user"
  member  = local.principals["retail-training"]

  depends_on = [google_container_cluster.this]
}
