# Pools by name; every node carries the label retail-assistant/pool=NAME.

locals {
  scopes = ["https://www.googleapis.com/auth/cloud-platform"]
}

# Dagster, MLflow and the cluster's own pods: always there.
resource "google_container_node_pool" "system" {
  name     = "system"
  cluster  = google_container_cluster.this.id
  location = var.region

  autoscaling {
    total_min_node_count = 1
    total_max_node_count = 3
    location_policy      = "BALANCED"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = "e2-standard-4"
    disk_size_gb    = 100
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.nodes.email
    oauth_scopes    = local.scopes
    labels          = { "retail-assistant/pool" = "system" }

    gcfs_config {
      enabled = true
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }
}

# Launched work without a GPU. Spot: what is broken off goes on from what is finished.
resource "google_container_node_pool" "cpu" {
  name           = "cpu"
  cluster        = google_container_cluster.this.id
  location       = var.region
  node_locations = var.zones

  autoscaling {
    total_min_node_count = 0
    total_max_node_count = var.cpu_pool.max_nodes
    location_policy      = "ANY"
  }

  management {
    auto_repair  = true
    auto_upgrade = true
  }

  node_config {
    machine_type    = var.cpu_pool.machine_type
    spot            = true
    disk_size_gb    = 100
    disk_type       = "pd-balanced"
    image_type      = "COS_CONTAINERD"
    service_account = google_service_account.nodes.email
    oauth_scopes    = local.scopes
    labels          = { "retail-assistant/pool" = "cpu" }

    gcfs_config {
      enabled = true
    }

    shielded_instance_config {
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  lifecycle {
    ignore_changes = [node_count]
  }
}

# GPUs, from zero. GKE adds the taint nvidia.com/gpu=present:NoSchedule itself.
resource "google_container_node_pool" "gpu" {
  for_each = var.gpu_pools

  name               = each.key
  cluster            = google_container_cluster.this.id
  location           = var.region
  node_locations     = each.value.zones
  initial_node_count = 0

  autoscaling {
    total_min_node_count = 0
    total_max_node_count = each.value.max_nodes
    # Wherever there is one.
    location_policy = "ANY"
  }

  management {
    # A repaired node would be another one: queued capacity is given once.
    auto_repair  = each.value.provisioning != "flex_start"
    auto_upgrade = true
  }

  # All nodes of a job at once, or none yet: no GPU waits idle for its sisters.
  dynamic "queued_provisioning" {
    for_each = each.value.provisioning == "flex_start" ? [true] : []

    content {
      enabled = queued_provisioning.value
    }
  }

  node_config {
    machine_type     = each.value.machine_type
    spot             = each.value.provisioning == "spot"
    flex_start       = each.value.provisioning == "flex_start" ? true : null
    max_run_duration = each.value.provisioning == "flex_start" ? "604800s" : null
    disk_size_gb     = each.value.disk_gb
    disk_type        = "pd-balanced"
    image_type       = "COS_CONTAINERD"
    service_account  = google_service_account.nodes.email
    oauth_scopes     = local.scopes
    labels           = { "retail-assistant/pool" = each.key }

    guest_accelerator {
      type  = each.value.accelerator
      count = each.value.gpus

      # CUDA 13, which the locked torch brings, wants a driver of branch 580 or newer.
      gpu_driver_installation_config {
        gpu_driver_version = "LATEST"
      }
    }

    reservation_affinity {
      consume_reservation_type = "NO_RESERVATION"
    }

    # emptyDir, and so the work folder, is on them.
    dynamic "ephemeral_storage_local_ssd_config" {
      for_each = each.value.local_ssds > 0 ? [each.value.local_ssds] : []

      content {
        local_ssd_count = ephemeral_storage_local_ssd_config.value
      }
    }

    # A pod starts while its 10 GB image still streams in.
    gcfs_config {
      enabled = true
    }

    gvnic {
      enabled = true
    }

    shielded_instance_config {
      # NVIDIA's kernel modules that GKE installs are signed.
      enable_secure_boot          = true
      enable_integrity_monitoring = true
    }

    workload_metadata_config {
      mode = "GKE_METADATA"
    }
  }

  lifecycle {
    ignore_changes = [initial_node_count]
  }
}
