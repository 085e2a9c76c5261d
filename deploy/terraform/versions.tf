terraform {
  # 1.11: write-only arguments, which keep passwords out of the state.
  required_version = ">= 1.11.0, < 2.0.0"

  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 8.0.0, < 9.0.0"
    }
    random = {
      source  = "hashicorp/random"
      version = ">= 3.7.0, < 4.0.0"
    }
  }

  # terraform init -backend-config="bucket=PROJECT-terraform"; docs/production.md makes the bucket.
  backend "gcs" {
    prefix = "retail-assistant"
  }
}

provider "google" {
  project = var.project
  region  = var.region
  # Budgets are asked of the billing account; whose quota that counts on has to be said.
  user_project_override = true
  billing_project       = var.project
  default_labels        = local.labels
}
