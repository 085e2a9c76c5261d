variable "project" {
  description = "The id of an existing Google Cloud project that has a billing account."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "A project id: 6 to 30 lower-case letters, digits and dashes, such as my-shop-ml."
  }
}

variable "region" {
  description = "Where everything stands. It must have the GPUs of gpu_pools: gcloud compute accelerator-types list."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "A region such as us-central1 or europe-west4, not a zone."
  }
}

variable "zones" {
  description = "Zones of the nodes that are always there. GPU pools name their own."
  type        = list(string)
  default     = ["us-central1-a", "us-central1-b"]

  validation {
    condition     = length(var.zones) > 0 && alltrue([for zone in var.zones : startswith(zone, "${var.region}-")])
    error_message = "At least one zone, each in the region."
  }
}

variable "domain" {
  description = "A domain of yours: dagster.DOMAIN, mlflow.DOMAIN and assistant.DOMAIN get a certificate."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?\\.)+[a-z]{2,}$", var.domain))
    error_message = "A domain in lower case, such as ml.shop.example."
  }
}

variable "users" {
  description = "Who may pass the identity-aware proxy to Dagster and MLflow: user:…, group:… or domain:…"
  type        = set(string)

  validation {
    condition     = length(var.users) > 0 && alltrue([for user in var.users : can(regex("^(user|group|domain):[^@ ]+(@[^@ ]+)?$", user))])
    error_message = "At least one of user:NAME@DOMAIN, group:NAME@DOMAIN, domain:DOMAIN; never allUsers."
  }
}

variable "cluster_users" {
  description = "Who may reach the Kubernetes API (kubectl): user:… or group:…; what they may do there is Kubernetes' own RBAC."
  type        = set(string)

  validation {
    condition     = alltrue([for user in var.cluster_users : can(regex("^(user|group):[^@ ]+@[^@ ]+$", user))])
    error_message = "Each of user:NAME@DOMAIN or group:NAME@DOMAIN."
  }
}

variable "alert_email" {
  description = "Where alerts and budget warnings go."
  type        = string

  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.alert_email))
    error_message = "An e-mail address."
  }
}

variable "billing_account" {
  description = "The billing account of the project (XXXXXX-XXXXXX-XXXXXX), for the budget."
  type        = string

  validation {
    condition     = can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.billing_account))
    error_message = "Three groups of six hexadecimal digits: gcloud billing accounts list."
  }
}

variable "monthly_budget" {
  description = "Units of the billing account's currency a month; warnings at 50, 90 and 100 percent, and when the forecast passes it. A budget warns: it stops nothing."
  type        = number
  default     = 4000

  validation {
    condition     = var.monthly_budget >= 1 && floor(var.monthly_budget) == var.monthly_budget
    error_message = "A whole number, at least 1."
  }
}

variable "versions_kept_days" {
  description = "How long a deleted or replaced object can be brought back. Artefacts are never replaced; pointers are."
  type        = number
  default     = 30

  validation {
    condition     = var.versions_kept_days >= 7 && var.versions_kept_days <= 365
    error_message = "From 7 to 365 days."
  }
}

variable "database_tier" {
  description = "The machine of PostgreSQL. Dagster writes an event for every step; two cores do for ten runs at once."
  type        = string
  default     = "db-custom-2-7680"

  validation {
    condition     = can(regex("^db-(custom-[0-9]+-[0-9]+|perf-optimized-N-[0-9]+)$", var.database_tier))
    error_message = "A dedicated machine such as db-custom-2-7680; shared cores have no service level."
  }
}

variable "database_availability" {
  description = "REGIONAL keeps a standby in another zone and costs twice as much; ZONAL is back in minutes from its disk."
  type        = string
  default     = "ZONAL"

  validation {
    condition     = contains(["ZONAL", "REGIONAL"], var.database_availability)
    error_message = "ZONAL or REGIONAL."
  }
}

variable "password_version" {
  description = "One more makes new database passwords and a new Ray token, in the databases and in Secret Manager at once."
  type        = number
  default     = 1

  validation {
    condition     = var.password_version >= 1 && floor(var.password_version) == var.password_version
    error_message = "A whole number, at least 1."
  }
}

variable "gpu_pools" {
  description = "GPU nodes by the pool's name. provisioning: spot (cheap, may be taken back), flex_start (queued until all nodes are there, up to seven days, needs Kueue) or on_demand. max_nodes is over all zones. local_ssds are what the machine type brings or takes."
  type = map(object({
    machine_type = string
    accelerator  = string
    gpus         = number
    provisioning = string
    max_nodes    = number
    zones        = list(string)
    local_ssds   = optional(number, 0)
    disk_gb      = optional(number, 200)
  }))

  default = {
    l4 = {
      machine_type = "g2-standard-96"
      accelerator  = "nvidia-l4"
      gpus         = 8
      provisioning = "spot"
      max_nodes    = 1
      zones        = ["us-central1-a", "us-central1-b", "us-central1-c"]
      local_ssds   = 8
    }
    a100 = {
      machine_type = "a2-highgpu-2g"
      accelerator  = "nvidia-tesla-a100"
      gpus         = 2
      provisioning = "spot"
      max_nodes    = 1
      zones        = ["us-central1-a", "us-central1-b", "us-central1-c", "us-central1-f"]
      local_ssds   = 2
    }
    h100 = {
      machine_type = "a3-highgpu-1g"
      accelerator  = "nvidia-h100-80gb"
      gpus         = 1
      provisioning = "flex_start"
      max_nodes    = 1
      zones        = ["us-central1-a", "us-central1-c"]
      local_ssds   = 2
    }
    serving = {
      machine_type = "g2-standard-24"
      accelerator  = "nvidia-l4"
      gpus         = 2
      provisioning = "on_demand"
      max_nodes    = 8
      zones        = ["us-central1-a", "us-central1-b"]
      local_ssds   = 2
    }
  }

  validation {
    condition     = alltrue([for pool in values(var.gpu_pools) : contains(["spot", "flex_start", "on_demand"], pool.provisioning)])
    error_message = "provisioning: spot, flex_start or on_demand."
  }

  validation {
    condition     = alltrue([for pool in values(var.gpu_pools) : contains([1, 2, 4, 8, 16], pool.gpus) && pool.max_nodes >= 1])
    error_message = "gpus: 1, 2, 4, 8 or 16 a node; max_nodes: at least 1."
  }

  validation {
    condition     = alltrue([for pool in values(var.gpu_pools) : length(pool.zones) > 0 && alltrue([for zone in pool.zones : startswith(zone, "${var.region}-")])])
    error_message = "zones: at least one, each in the region."
  }
}

variable "cpu_pool" {
  description = "Spot nodes for launched work that needs no GPU: indexing, images, prompts."
  type = object({
    machine_type = string
    max_nodes    = number
  })
  default = {
    machine_type = "n2-standard-8"
    max_nodes    = 8
  }
}

variable "generator_on_vertex" {
  description = "Whether RETAIL_GENERATOR=vertex is used: training pods may then call models on Vertex AI."
  type        = bool
  default     = false
}

variable "protected" {
  description = "Whether Terraform refuses to delete the cluster, the database and buckets that are not empty."
  type        = bool
  default     = true
}

variable "shopper_requests_a_minute" {
  description = "Requests a minute that one address may make of the assistant; a chat turn with its pictures is about ten."
  type        = number
  default     = 300

  validation {
    condition     = var.shopper_requests_a_minute >= 10
    error_message = "At least 10."
  }
}

variable "iap_client_id" {
  description = "The OAuth client of the identity-aware proxy; made by hand (docs/production.md), its secret goes to Secret Manager."
  type        = string
  default     = "not-made-yet.apps.googleusercontent.com"

  validation {
    condition     = endswith(var.iap_client_id, ".apps.googleusercontent.com")
    error_message = "A client id, which ends in .apps.googleusercontent.com."
  }
}
