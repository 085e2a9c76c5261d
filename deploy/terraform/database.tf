# One PostgreSQL for Dagster, MLflow and shoppers' feedback: a database and a user each. Together they
# write some rows a second; a second instance would cost as much again and be one more thing to patch and
# back up.

resource "google_sql_database_instance" "this" {
  #checkov:skip=CKV_GCP_51:set below, where the check does not look
  #checkov:skip=CKV_GCP_52:set below, where the check does not look
  #checkov:skip=CKV_GCP_53:set below, where the check does not look
  #checkov:skip=CKV_GCP_54:set below, where the check does not look
  #checkov:skip=CKV_GCP_6:encrypted connections only; pods have a password and no client certificate
  #checkov:skip=CKV_GCP_79:17 is what the tests and the backup's programs are of
  #checkov:skip=CKV_GCP_108:a name look-up a connection
  #checkov:skip=CKV_GCP_109:the default level has errors
  #checkov:skip=CKV_GCP_110:two programs write here, no people
  #checkov:skip=CKV_GCP_111:slow statements are logged; all of them would hold run configurations
  #checkov:skip=CKV2_GCP_13:slow statements are logged with their duration
  name                = "retail-assistant"
  database_version    = "POSTGRES_17"
  region              = var.region
  deletion_protection = var.protected

  settings {
    # From version 16 on the default is ENTERPRISE_PLUS, at twice the price.
    edition                     = "ENTERPRISE"
    tier                        = var.database_tier
    availability_type           = var.database_availability
    disk_type                   = "PD_SSD"
    disk_size                   = 20
    disk_autoresize             = true
    disk_autoresize_limit       = 200
    deletion_protection_enabled = var.protected

    ip_configuration {
      ipv4_enabled    = false
      private_network = google_compute_network.this.id
      ssl_mode        = "ENCRYPTED_ONLY"
    }

    backup_configuration {
      enabled                        = true
      start_time                     = "03:00"
      point_in_time_recovery_enabled = true
      transaction_log_retention_days = 7

      backup_retention_settings {
        retained_backups = 14
        retention_unit   = "COUNT"
      }
    }

    maintenance_window {
      day          = 7
      hour         = 4
      update_track = "stable"
    }

    insights_config {
      query_insights_enabled = true
    }

    dynamic "database_flags" {
      for_each = {
        # Web server, daemon, code location, MLflow, the assistant, and one connection for each run.
        max_connections            = "200"
        log_min_duration_statement = "1000"
        log_lock_waits             = "on"
        log_connections            = "on"
        log_disconnections         = "on"
        log_checkpoints            = "on"
        log_temp_files             = "0"
      }

      content {
        name  = database_flags.key
        value = database_flags.value
      }
    }
  }

  depends_on = [google_service_networking_connection.database]
}

locals {
  databases = toset(["dagster", "mlflow", "feedback"])
}

resource "google_sql_database" "this" {
  for_each = local.databases

  name     = each.value
  instance = google_sql_database_instance.this.name
}

# Made for the moment of an apply and written in two places; neither plan nor state holds it.
ephemeral "random_password" "database" {
  for_each = local.databases

  length  = 40
  special = false
}

resource "google_sql_user" "this" {
  for_each = local.databases

  name                = each.value
  instance            = google_sql_database_instance.this.name
  password_wo         = ephemeral.random_password.database[each.key].result
  password_wo_version = var.password_version
}
