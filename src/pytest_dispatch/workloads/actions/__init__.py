"""The kind `actions`: runs of GitHub Actions workflows, sent off only when a self-hosted runner is idle."""
