"""What users call: Coordinator and AsyncCoordinator."""
