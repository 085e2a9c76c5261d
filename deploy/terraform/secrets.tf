# Secrets by the name of the environment variable that a pod gets them in, in lower case with dashes.
# Terraform makes those that nobody needs to know; of the others it makes the container, and a person
# adds the value:  printf %s "$HF_TOKEN" | gcloud secrets versions add hf-token --data-file=-

locals {
  secret_readers = {
    "dagster-pg-password"         = ["retail-dagster"]
    "mlflow-pg-password"          = ["retail-mlflow"]
    "ray-auth-token"              = ["retail-dagster", "retail-training", "retail-images"]
    "hf-token"                    = ["retail-dagster", "retail-training"]
    "retail-generator-api-key"    = ["retail-training"]
    "retail-judge-api-key"        = ["retail-dagster"]
    "retail-notification-webhook" = ["retail-dagster"]
  }

  secret_grants = merge([
    for secret, readers in local.secret_readers : {
      for reader in readers : "${reader} reads ${secret}" => { secret = secret, identity = reader }
    }
  ]...)
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

resource "google_secret_manager_secret_version" "database" {
  for_each = local.databases

  secret                 = google_secret_manager_secret.this["${each.key}-pg-password"].id
  secret_data_wo         = ephemeral.random_password.database[each.key].result
  secret_data_wo_version = var.password_version
}

ephemeral "random_password" "ray" {
  length  = 48
  special = false
}

resource "google_secret_manager_secret_version" "ray" {
  secret                 = google_secret_manager_secret.this["ray-auth-token"].id
  secret_data_wo         = ephemeral.random_password.ray.result
  secret_data_wo_version = var.password_version
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local.secret_grants

  secret_id = google_secret_manager_secret.this[each.value.secret].id
  role      = "roles/secretmanager.secretAccessor"
  member    = local.principals[each.value.identity]

  depends_on = [google_container_cluster.this]
}
