# The only way in: one address, one certificate, the identity-aware proxy for colleagues and a limit
# for shoppers. The Gateway that uses them, by these names, is in deploy/kubernetes.

locals {
  hosts = {
    dagster   = "dagster.${var.domain}"
    mlflow    = "mlflow.${var.domain}"
    assistant = "assistant.${var.domain}"
  }
}

resource "google_compute_global_address" "doorway" {
  name = "retail-assistant"

  depends_on = [google_project_service.needed]
}

resource "google_certificate_manager_certificate" "doorway" {
  name = "retail-assistant"

  managed {
    domains = values(local.hosts)
  }

  depends_on = [google_project_service.needed]
}

resource "google_certificate_manager_certificate_map" "doorway" {
  name = "retail-assistant"

  depends_on = [google_project_service.needed]
}

resource "google_certificate_manager_certificate_map_entry" "doorway" {
  for_each = local.hosts

  name         = each.key
  map          = google_certificate_manager_certificate_map.doorway.name
  certificates = [google_certificate_manager_certificate.doorway.id]
  hostname     = each.value
}

# The proxy asks for an account and for this role.
resource "google_iap_web_iam_member" "user" {
  for_each = var.users

  project = var.project
  role    = "roles/iap.httpsResourceAccessor"
  member  = each.value

  depends_on = [google_project_service.needed]
}

# Shoppers have no account. A single address may ask so often; the assistant limits each key again.
resource "google_compute_security_policy" "shoppers" {
  name = "retail-assistant-shoppers"
  type = "CLOUD_ARMOR"

  rule {
    description = "The log4j family; the rest of the API takes JSON only."
    priority    = 100
    action      = "deny(403)"

    match {
      expr {
        expression = "evaluatePreconfiguredWaf('cve-canary')"
      }
    }
  }

  rule {
    description = "So many requests a minute from one address."
    priority    = 1000
    action      = "throttle"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }

    rate_limit_options {
      conform_action = "allow"
      exceed_action  = "deny(429)"
      enforce_on_key = "IP"

      rate_limit_threshold {
        count        = var.shopper_requests_a_minute
        interval_sec = 60
      }
    }
  }

  rule {
    description = "Whatever no rule above takes."
    priority    = 2147483647
    action      = "allow"

    match {
      versioned_expr = "SRC_IPS_V1"

      config {
        src_ip_ranges = ["*"]
      }
    }
  }

  depends_on = [google_project_service.needed]
}
