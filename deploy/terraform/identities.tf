# Who may do what: a Google service account for each stage, which only its Kubernetes service accounts
# may be (workload identity). There are no keys.
#
# | identity        | storage bucket                        | catalog | secrets (secrets.tf)                      |
# |-----------------|---------------------------------------|---------|-------------------------------------------|
# | retail-dagster  | reads and writes                      | reads   | its database, feedback, Ray, proxy, judge |
# | retail-training | reads; writes artefacts and responses | reads   | model hub, generator                      |
# | retail-images   | reads; writes artefacts and objects   | -       | -                                         |
# | retail-serving  | reads; writes merged champions        | -       | the key to its metrics, feedback          |
# | retail-mlflow   | reads and writes mlflow/ only         | -       | its database                              |
# | retail-traces   | - (writes traces)                     | -       | -                                         |

locals {
  # Each with the Kubernetes service accounts that are it.
  identities = {
    "retail-dagster"  = ["retail-dagster", "retail-runs"]
    "retail-training" = ["retail-training", "retail-ray-head"]
    "retail-images"   = ["retail-images"]
    "retail-serving"  = ["retail-serving"]
    "retail-mlflow"   = ["retail-mlflow"]
    "retail-traces"   = ["retail-traces"]
  }

  pods = merge([
    for identity, accounts in local.identities : {
      for account in accounts : account => identity
    }
  ]...)

  bucket_grants = {
    "retail-dagster writes storage" = { bucket = "storage", role = "roles/storage.objectUser", identity = "retail-dagster" }
    "retail-dagster reads catalog"  = { bucket = "catalog", role = "roles/storage.objectViewer", identity = "retail-dagster" }
    "retail-training reads storage" = { bucket = "storage", role = "roles/storage.objectViewer", identity = "retail-training" }
    "retail-training reads catalog" = { bucket = "catalog", role = "roles/storage.objectViewer", identity = "retail-training" }
    "retail-images reads storage"   = { bucket = "storage", role = "roles/storage.objectViewer", identity = "retail-images" }
    "retail-serving reads storage"  = { bucket = "storage", role = "roles/storage.objectViewer", identity = "retail-serving" }
  }

  folder_grants = {
    "retail-training writes artefacts" = { folder = "artefacts", identity = "retail-training" }
    "retail-training writes responses" = { folder = "responses", identity = "retail-training" }
    "retail-images writes artefacts"   = { folder = "artefacts", identity = "retail-images" }
    "retail-images writes objects"     = { folder = "objects", identity = "retail-images" }
    "retail-mlflow writes mlflow"      = { folder = "mlflow", identity = "retail-mlflow" }
    "retail-serving writes merged"     = { folder = "merged", identity = "retail-serving" }
  }
}

resource "google_service_account" "stage" {
  for_each = local.identities

  account_id   = each.key
  display_name = "Pods of retail-assistant: ${join(", ", each.value)}"

  depends_on = [google_project_service.needed]
}

resource "google_service_account_iam_member" "pod" {
  for_each = local.pods

  service_account_id = google_service_account.stage[each.value].name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${var.project}.svc.id.goog[${local.namespace}/${each.key}]"

  # The pool of Kubernetes' identities is there when a cluster is.
  depends_on = [google_container_cluster.this]
}

resource "google_storage_bucket_iam_member" "stage" {
  for_each = local.bucket_grants

  bucket = google_storage_bucket.this[each.value.bucket].name
  role   = each.value.role
  member = google_service_account.stage[each.value.identity].member
}

resource "google_storage_managed_folder_iam_member" "stage" {
  for_each = local.folder_grants

  bucket         = google_storage_managed_folder.this[each.value.folder].bucket
  managed_folder = google_storage_managed_folder.this[each.value.folder].name
  role           = "roles/storage.objectUser"
  member         = google_service_account.stage[each.value.identity].member
}

# Dialogues written by Llama on Vertex AI.
resource "google_project_iam_member" "generator" {
  count = var.generator_on_vertex ? 1 : 0

  project = var.project
  role    = "roles/aiplatform.user"
  member  = google_service_account.stage["retail-training"].member
}

# Traces, from the collector of deploy/kubernetes/components/traces.
resource "google_project_iam_member" "traces" {
  project = var.project
  role    = "roles/cloudtrace.agent"
  member  = google_service_account.stage["retail-traces"].member
}

# The adapter by which the assistant is scaled on its own metrics, as its makers install it.
resource "google_project_iam_member" "metrics_adapter" {
  project = var.project
  role    = "roles/monitoring.viewer"
  member = join("", [
    "principal://iam.googleapis.com/projects/${data.google_project.this.number}",
    "/locations/global/workloadIdentityPools/${var.project}.svc.id.goog",
    "/subject/ns/custom-metrics/sa/custom-metrics-stackdriver-adapter",
  ])

  depends_on = [google_container_cluster.this]
}
