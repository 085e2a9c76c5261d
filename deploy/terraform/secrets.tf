# Secrets, and who reads which; pods get them by the Secrets Store CSI driver. Terraform makes those
# that nobody needs to know. Of the others it makes the container, and a person adds the value:
#   printf %s "$HF_TOKEN" | gcloud secrets versions add hugging-face-token --data-file=-

locals {
  secret_readers = {
    "dagster-database-password" = "retail-dagster"
    "ray-auth-token"            = "retail-dagster"
    "iap-client-secret"         = "retail-dagster"
    "judge-api-key"             = "retail-dagster"
    "notification-webhook"      = "retail-dagster"
    "hugging-face-token"        = "retail-training"
    "generator-api-key"         = "retail-training"
    "mlflow-database-uri"       = "retail-mlflow"
    "assistant-metrics-key"     = "retail-serving"
    "feedback-database-uri"     = "retail-serving"
  }

  made_here = [
    "dagster-database-password", "feedback-database-uri", "mlflow-database-uri", "ray-auth-token",
  ]
}

resource "google_secret_manager_secret" "this" {
  for_each = local.secret_readers

  secret_id           = each.key
  deletion_protection = var.protected

  replication {
    user_managed {
      replicas {
        location = var.region
      }
    }
  }

  depends_on = [google_project_service.needed]
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.secret_readers

  secret_id = google_secret_manager_secret.this[each.key].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.stage[each.value].member
}

# Runs make a table and a report of what shoppers said, and delete what is too old.
resource "google_secret_manager_secret_iam_member" "feedback_of_runs" {
  secret_id = google_secret_manager_secret.this["feedback-database-uri"].id
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.stage["retail-dagster"].member
}

ephemeral "random_password" "ray" {
  length  = 48
  special = false
}

# Write-only: sent to Secret Manager, in neither plan nor state.
resource "google_secret_manager_secret_version" "dagster_database_password" {
  secret                 = google_secret_manager_secret.this["dagster-database-password"].id
  secret_data_wo         = ephemeral.random_password.database["dagster"].result
  secret_data_wo_version = var.password_version
}

resource "google_secret_manager_secret_version" "mlflow_database_uri" {
  secret                 = google_secret_manager_secret.this["mlflow-database-uri"].id
  secret_data_wo         = "postgresql+psycopg2://mlflow:${ephemeral.random_password.database["mlflow"].result}@${google_sql_database_instance.this.private_ip_address}:5432/mlflow?sslmode=require"
  secret_data_wo_version = var.password_version
}

resource "google_secret_manager_secret_version" "feedback_database_uri" {
  secret                 = google_secret_manager_secret.this["feedback-database-uri"].id
  secret_data_wo         = "postgresql+psycopg2://feedback:${ephemeral.random_password.database["feedback"].result}@${google_sql_database_instance.this.private_ip_address}:5432/feedback?sslmode=require"
  secret_data_wo_version = var.password_version
}

resource "google_secret_manager_secret_version" "ray_auth_token" {
  secret                 = google_secret_manager_secret.this["ray-auth-token"].id
  secret_data_wo         = ephemeral.random_password.ray.result
  secret_data_wo_version = var.password_version
}
