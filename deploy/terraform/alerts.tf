# What wakes a person: money, a full database, pods that fail again and again, GPUs that do nothing.
# Failed runs and checks are told by Dagster's own sensors.

resource "google_monitoring_notification_channel" "email" {
  display_name = "retail-assistant"
  type         = "email"

  labels = {
    email_address = var.alert_email
  }

  depends_on = [google_project_service.needed]
}

resource "google_billing_budget" "this" {
  billing_account = var.billing_account
  display_name    = "retail-assistant ${var.project}"

  budget_filter {
    projects = ["projects/${data.google_project.this.number}"]
  }

  amount {
    specified_amount {
      units = tostring(var.monthly_budget)
    }
  }

  threshold_rules {
    threshold_percent = 0.5
  }

  threshold_rules {
    threshold_percent = 0.9
  }

  threshold_rules {
    threshold_percent = 1.0
  }

  threshold_rules {
    threshold_percent = 1.0
    spend_basis       = "FORECASTED_SPEND"
  }

  all_updates_rule {
    monitoring_notification_channels = [google_monitoring_notification_channel.email.id]
  }

  depends_on = [google_project_service.needed]
}

locals {
  alerts = {
    "Database disk nearly full" = {
      query    = "max by (database_id) (cloudsql_googleapis_com:database_disk_utilization) > 0.85"
      duration = "600s"
      told     = "Dagster's event log and MLflow's metrics grow. The disk grows by itself up to 200 GB; then prune old runs (docs/production.md)."
    }
    "Database out of reach" = {
      query    = "min by (database_id) (cloudsql_googleapis_com:database_up) < 1"
      duration = "300s"
      told     = "Dagster's runs stop at their next event. Is a maintenance under way?"
    }
    "Pods restart" = {
      query    = "sum by (pod_name) (increase(kubernetes_io:container_restart_count{namespace_name=\"${local.namespace}\"}[1h])) > 5"
      duration = "0s"
      told     = "kubectl -n ${local.namespace} describe pod; kubectl logs --previous."
    }
    "GPUs do nothing" = {
      query    = "max by (pod_name) (avg_over_time(kubernetes_io:container_accelerator_duty_cycle{namespace_name=\"${local.namespace}\",pod_name!~\"assistant-.*\"}[1h])) < 5"
      duration = "1800s"
      told     = "A pod has held GPUs for an hour and a half and not used them; its node costs money. kubectl -n ${local.namespace} describe pod."
    }
  }
}

resource "google_monitoring_alert_policy" "this" {
  for_each = local.alerts

  display_name          = each.key
  combiner              = "OR"
  notification_channels = [google_monitoring_notification_channel.email.id]

  conditions {
    display_name = each.key

    condition_prometheus_query_language {
      query               = each.value.query
      duration            = each.value.duration
      evaluation_interval = "60s"
    }
  }

  documentation {
    content   = each.value.told
    mime_type = "text/markdown"
  }

  alert_strategy {
    auto_close = "86400s"
  }

  depends_on = [google_project_service.needed]
}
