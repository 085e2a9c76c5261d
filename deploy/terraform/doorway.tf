# The only way in: one address, one certificate, the identity-aware proxy. The Gateway that uses them
# is in deploy/kubernetes.

resource "google_compute_global_address" "doorway" {
  name = "retail-assistant"

  depends_on = [google_project_service.needed]
}

resource "google_compute_managed_ssl_certificate" "doorway" {
  name = "retail-assistant"

  managed {
    domains = [for part in ["dagster", "mlflow", "assistant"] : "${part}.${var.domain}"]
  }

  depends_on = [google_project_service.needed]
}

# TLS 1.2 and newer, modern ciphers.
resource "google_compute_ssl_policy" "doorway" {
  name            = "retail-assistant"
  profile         = "MODERN"
  min_tls_version = "TLS_1_2"

  depends_on = [google_project_service.needed]
}

# Google makes the proxy's OAuth client itself where a backend has none of its own.
resource "google_iap_web_iam_member" "user" {
  for_each = var.users

  project = var.project
  role    = "roles/iap.httpsResourceAccessor"
  member  = each.value

  depends_on = [google_project_service.needed]
}
