# GKE Standard and not Autopilot: GPU pools are stated here (machine, zones, spot or queued, how many
# at most), the local SSDs are the work folders, and an idle cluster is one small node. Autopilot
# bills by what pods ask for and hides the nodes, at a higher price for a GPU that works all hour.

locals {
  kubernetes_api_range = "172.16.0.0/28"
}

resource "google_container_cluster" "this" {
  #checkov:skip=CKV_GCP_12:Dataplane V2 enforces NetworkPolicies; the old add-on must be off
  #checkov:skip=CKV_GCP_65:who comes in is IAM's; Kubernetes' own groups need a group of the organization
  #checkov:skip=CKV_GCP_66:images come from our registry by a commit's tag that cannot change; nothing attests them
  name                = "retail-assistant"
  location            = var.region
  node_locations      = var.zones
  deletion_protection = var.protected

  network           = google_compute_network.this.id
  subnetwork        = google_compute_subnetwork.nodes.id
  networking_mode   = "VPC_NATIVE"
  datapath_provider = "ADVANCED_DATAPATH" # enforces NetworkPolicies

  enable_intranode_visibility = true
  resource_labels             = local.labels

  # Every node is in a pool of node_pools.tf.
  remove_default_node_pool = true
  initial_node_count       = 1

  release_channel {
    channel = "REGULAR"
  }

  maintenance_policy {
    recurring_window {
      start_time = "2026-01-03T02:00:00Z"
      end_time   = "2026-01-03T08:00:00Z"
      recurrence = "FREQ=WEEKLY;BYDAY=SA,SU"
    }
  }

  ip_allocation_policy {
    cluster_secondary_range_name  = "pods"
    services_secondary_range_name = "services"
  }

  private_cluster_config {
    enable_private_nodes    = true
    enable_private_endpoint = true
    master_ipv4_cidr_block  = local.kubernetes_api_range
  }

  # Pods reach the API at its private address; people, by kubectl, at a name that IAM guards.
  master_authorized_networks_config {
    gcp_public_cidrs_access_enabled = false
  }

  control_plane_endpoints_config {
    dns_endpoint_config {
      allow_external_traffic = true
    }
  }

  workload_identity_config {
    workload_pool = "${var.project}.svc.id.goog"
  }

  master_auth {
    client_certificate_config {
      issue_client_certificate = false
    }
  }

  node_config {
    service_account = google_service_account.nodes.email

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  addons_config {
    gcs_fuse_csi_driver_config {
      enabled = true
    }
    # KubeRay is installed by Helm (deploy/README.md): two operators would fight over a RayJob.
    ray_operator_config {
      enabled = false
    }
    dns_cache_config {
      enabled = true
    }
  }

  gateway_api_config {
    channel = "CHANNEL_STANDARD"
  }

  # A GPU node goes soon after its last pod.
  cluster_autoscaling {
    enabled             = false
    autoscaling_profile = "OPTIMIZE_UTILIZATION"
  }

  vertical_pod_autoscaling {
    enabled = true
  }

  # Costs by namespace and label in the billing export.
  cost_management_config {
    enabled = true
  }

  logging_config {
    enable_components = ["SYSTEM_COMPONENTS", "WORKLOADS", "APISERVER"]
  }

  monitoring_config {
    enable_components = ["SYSTEM_COMPONENTS", "POD", "DEPLOYMENT", "STATEFULSET", "HPA", "DCGM"]
    managed_prometheus {
      enabled = true
    }
  }

  security_posture_config {
    mode               = "BASIC"
    vulnerability_mode = "VULNERABILITY_BASIC"
  }

  lifecycle {
    # Of the first pool, which is removed.
    ignore_changes = [node_config, initial_node_count]
  }

  depends_on = [google_project_service.needed]
}

resource "google_project_iam_member" "cluster_user" {
  for_each = var.cluster_users

  project = var.project
  role    = "roles/container.clusterViewer"
  member  = each.value
}

# What a node itself may do: tell how it is, and fetch images. Pods have identities of their own.
resource "google_service_account" "nodes" {
  account_id   = "retail-nodes"
  display_name = "Nodes of the retail-assistant cluster"
}

resource "google_project_iam_member" "nodes" {
  project = var.project
  role    = "roles/container.defaultNodeServiceAccount"
  member  = google_service_account.nodes.member
}

resource "google_artifact_registry_repository_iam_member" "nodes" {
  repository = google_artifact_registry_repository.images.name
  location   = google_artifact_registry_repository.images.location
  role       = "roles/artifactregistry.reader"
  member     = google_service_account.nodes.member
}
